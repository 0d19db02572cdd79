"""The examples do what they say: the Python ones as programs, the page in a headless browser."""

from __future__ import annotations

import asyncio
import http.server
import os
import shutil
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import truetape
from truetape.app.live import Gateway
from truetape.app.sim import Options, Simulator

ROOT = Path(__file__).resolve().parent.parent.parent
WITHIN = 30.0


@asynccontextmanager
async def served(**serve: Any) -> AsyncIterator[tuple[Simulator, Gateway]]:
    async with Simulator(Options(venue="kraken", symbols=2, rate=100)) as sim:
        feed = {"venue": "kraken", "symbols": sim.symbols, "url": sim.ws, "rest_url": sim.rest}
        async with truetape.open({"feeds": [feed], "serve": {"port": 0, **serve}}) as gateway:
            assert await gateway.ready()
            yield sim, gateway


@pytest.mark.parametrize(("name", "says"), [("watch_async.py", " / "), ("volume_sync.py", "in all")])
async def test_an_example_runs_as_a_program(tmp_path: Path, name: str, says: str) -> None:
    path = tmp_path / "s.sock"
    async with served(socket=str(path)) as (sim, _):
        run = await asyncio.create_subprocess_exec(
            sys.executable, str(ROOT / "examples" / name), f"unix:{path}", f"kraken:{sim.symbols[0]}", "5",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(WITHIN):
            out, err = await run.communicate()
        assert run.returncode == 0, err.decode()
        assert sum(says in line for line in out.decode().splitlines()) == 5


async def test_ctrl_c_ends_a_program_that_waits(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    async with served(socket=str(path)) as (sim, _):
        code = (
            "import truetape, sys\n"
            "with truetape.client(sys.argv[1]) as c:\n"
            "    sub = c.subscribe(sys.argv[2], ['bar.1m'])\n"
            "    print('waits', flush=True)\n"
            "    list(sub)\n"
        )
        run = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, f"unix:{path}", f"kraken:{sim.symbols[0]}",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert run.stdout is not None
        async with asyncio.timeout(WITHIN):
            assert b"waits" in await run.stdout.readline()
            run.send_signal(2)
            _, err = await run.communicate()
        assert b"KeyboardInterrupt" in err


def chromium() -> str:
    """Debian's browser; with CI=true its absence is a failure."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None and os.environ.get("CI") == "true":
        pytest.fail("no chromium: apt-get install chromium")
    if found is None:
        pytest.skip("no chromium on this machine")
    return found


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Nothing."""


async def test_the_page_shows_the_book_and_comes_back_where_it_stopped() -> None:
    executable = chromium()
    playwright = pytest.importorskip("playwright.async_api")
    files = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(ROOT / "examples")))
    threading.Thread(target=files.serve_forever, daemon=True).start()
    origin = f"http://127.0.0.1:{files.server_port}"
    try:
        async with served(origins=[origin]) as (sim, gateway), playwright.async_playwright() as play:
            assert gateway.service is not None
            browser = await play.chromium.launch(executable_path=executable, args=["--no-sandbox"])
            page = await browser.new_page()
            errors: list[str] = []
            page.on("pageerror", lambda error: errors.append(str(error)))
            query = f"gateway=ws://127.0.0.1:{gateway.service.port}&symbol=kraken:{sim.symbols[0]}"
            await page.goto(f"{origin}/browser.html?{query}")
            wait = partial(page.wait_for_function, timeout=WITHIN * 1000)
            await wait(
                "document.querySelectorAll('#book tr').length === 5 && document.querySelectorAll('#trades li').length > 0"
            )
            for client in list(gateway.service.hall.clients):
                client.pipe.abort()
            await wait("seen.reconnects === 1 && seen.recovered.every((went) => went === true)")
            count = await page.evaluate("seen.events")
            await wait(f"seen.events > {count}")
            assert await page.evaluate("seen.lagged") == 0
            assert errors == []
            await browser.close()
    finally:
        files.shutdown()
        files.server_close()

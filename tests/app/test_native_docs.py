"""docs/native.md does what it says: its configuration, its addresses, its lines for clients. `make peers` runs the clients that we lack."""

from __future__ import annotations

import asyncio
import json
import re
import sys
import textwrap
import tomllib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import truetape
from native_bots import WITHIN, connect, fetched
from tests.peers import snippets
from truetape.app.config import parse
from truetape.app.sim import Options, Simulator

PAGE = snippets.PAGE.read_text()


@asynccontextmanager
async def gateway() -> AsyncIterator[int]:
    """All three dialects; returns the port."""
    async with AsyncExitStack() as stack:
        feeds = []
        for venue in ("binance", "kraken", "tickdb"):
            sim = await stack.enter_async_context(Simulator(Options(venue=venue, symbols=2, rate=100)))
            feeds.append({"venue": venue, "symbols": sim.symbols, "url": sim.ws, "rest_url": sim.rest})
        native = ["binance", "kraken", "tickdb"]
        running = await stack.enter_async_context(
            truetape.open({"feeds": feeds, "serve": {"port": 0, "native": native}})
        )
        assert await running.ready()
        assert running.service is not None
        yield running.service.port


def test_the_configuration_is_one() -> None:
    (text,) = snippets.blocks("toml")
    tree: dict[str, Any] = tomllib.loads(text)
    assert parse(tree, "docs/native.md", {}).serve is not None


@pytest.mark.parametrize("client", ["ccxt Pro", "python-binance", "python-kraken-sdk"])
def test_lines_for_clients_that_we_lack_are_python_and_name_addresses_of_the_table(client: str) -> None:
    block = snippets.code(client)
    compile(block, "docs/native.md", "exec")
    table = "".join(line for line in PAGE.splitlines() if line.startswith("|"))
    for address in re.findall(r'"((?:ws|http)://[^"]+)"', block):
        assert urlsplit(address).netloc == "127.0.0.1:8787"
        assert address.rstrip("/") in table, "or what it begins with"


async def test_every_address_of_the_table_is_answered() -> None:
    rows = [line for line in PAGE.splitlines() if "`ws://127" in line or "`http://127" in line]
    assert len(rows) == 6
    gets = {"binance": "ping", "kraken": "Time"}
    async with gateway() as port:
        for row in rows:
            for address in re.findall(r"`((?:ws|http)://127[^`]+)`", row):
                here = address.replace(":8787", f":{port}").replace("…", "")
                if here.startswith("ws"):
                    async with connect(here):
                        pass
                    continue
                venue = here.split("/")[4]
                assert isinstance(await fetched(here + gets.get(venue, "")), dict), address


async def test_the_lines_for_tickdb_print_whole_books(tmp_path: Path) -> None:
    async with gateway() as port:
        block = snippets.code("TickDB", ws=f"ws://127.0.0.1:{port}/native/tickdb")
        block = block.replace("print(message)", "print(message, flush=True)")
        script = tmp_path / "bot.py"
        script.write_text(
            f"import asyncio\nimport websockets\n\nasync def main():\n{textwrap.indent(block, '    ')}\nasyncio.run(main())\n"
        )
        child = await asyncio.create_subprocess_exec(sys.executable, script, stdout=asyncio.subprocess.PIPE)
        try:
            assert child.stdout is not None
            async with asyncio.timeout(WITHIN):
                seen = [json.loads(await child.stdout.readline()) for _ in range(10)]
        finally:
            child.kill()
            await child.wait()
    assert (seen[0]["cmd"], seen[0]["code"]) == ("subscribe", 0)
    assert all(row["cmd"] == "depth" and row["data"]["symbol"] == "BTCUSDT" for row in seen[1:])

"""Tokens and their keys appear nowhere: debug logging on, errors forced, and everything that can be read is read."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.app.conftest import environment, run
from tests.app.test_drain import Run, free_port
from truetape.app.sim import Options, Simulator
from truetape.io.store import reader

MARK = "CANARY"
SECRET = f"{MARK}-0123456789-0123456789-0123456789"
DEBUGGED = "import logging; logging.basicConfig(level=logging.DEBUG); from truetape.app.cli.main import main; main()"


def scrape(port: int, path: str, token: str) -> str:
    asked = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            body: bytes = answer.read()
            return body.decode() + str(answer.headers)
    except urllib.error.HTTPError as error:
        return error.read().decode() + str(error.headers)


async def said(url: str, message: str = "", **options: dict[str, str]) -> str:
    """All that a client is told until it is sent away, or has its answer."""
    heard: list[str] = []
    try:
        async with connect(url, additional_headers=options) as client, asyncio.timeout(2):
            heard.append(str(await client.recv()))
            if message:
                await client.send(message)
                heard.append(str(await client.recv()))
                heard.append(str(await client.recv()))
    except ConnectionClosed as closed:
        heard.append(str(closed))
    except InvalidStatus as refused:
        heard.append(refused.response.body.decode() if refused.response.body else "")
    except TimeoutError:
        pass
    return "".join(heard)


@pytest.mark.parametrize("kind", ["env", "file"])
async def test_tokens_and_keys_are_nowhere_to_be_read(tmp_path: Path, kind: str) -> None:
    (tmp_path / "secret").write_text(SECRET)
    reference = "env:SERVE_SECRET" if kind == "env" else f"file:{tmp_path / 'secret'}"
    port = free_port()
    async with Simulator(Options(venue="kraken", symbols=2, rate=50)) as sim:
        (tmp_path / "gateway.toml").write_text(
            f'[[feeds]]\nvenue = "kraken"\nsymbols = {json.dumps(sim.symbols)}\nurl = "{sim.ws}"\nrest_url = "{sim.rest}"\n[journal]\n'
            f'[control]\n[log]\nlevel = "debug"\nformat = "json"\n[serve]\nport = {port}\ntoken_in_url = true\nnative = ["kraken"]\n'
            f'[[serve.keys]]\nid = "one"\nsecret = "{reference}"\n'
        )
        env = environment(SERVE_SECRET=SECRET, PYTHONASYNCIODEBUG="1")
        issued = await asyncio.to_thread(
            run, "token", "issue", "bob", "--role", "ops", "--config", "gateway.toml", cwd=tmp_path, env=env
        )
        token = issued.stdout.split()[-1]
        forged = token[:-8] + MARK + "xx"
        with (tmp_path / "stderr").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-X", "dev", "-c", DEBUGGED, "run", "gateway.toml"],
                cwd=tmp_path,
                env=env,
                stdout=log,
                stderr=log,
                text=True,
            )
        try:
            await Run(tmp_path, process, port).until("/readyz", 200)
            base = f"ws://127.0.0.1:{port}"
            texts = [Path(f"/proc/{process.pid}/cmdline").read_text()]
            for value in (token, forged, MARK):
                authenticate = json.dumps({"type": "authenticate", "token": value})
                texts.append(await said(f"{base}/v1/stream", authenticate))
                texts.append(await said(f"{base}/v1/stream?token={value}", '{"type":"ping","ts":1}'))
                texts.append(await said(f"{base}/v1/stream", '{"type":"ping","ts":1}', Authorization=f"Bearer {value}"))
                texts.append(await said(f"{base}/native/kraken/v2?token={value}"))
                paths = ("/metrics", "/status", "/clients", "/nothing")
                texts += [await asyncio.to_thread(scrape, port, path, value) for path in paths]
            texts.append((await asyncio.to_thread(run, "status", "--json", cwd=tmp_path)).stdout)
            assert any("truetape_build_info" in text for text in texts), "it was let in"
            os.kill(process.pid, signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, 20) == 0
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    logs = (tmp_path / "stderr").read_text()
    assert "connected" in logs
    segments = b"".join(path.read_bytes() for path in sorted((tmp_path / "tape").iterdir()))
    texts += [logs, segments.decode("latin-1"), repr(list(reader.read(tmp_path / "tape")))]
    for secret in (MARK, token, token.rpartition(".")[2]):
        assert [text[:300] for text in texts if secret in text] == []


async def test_the_level_and_format_change_while_running(tmp_path: Path) -> None:
    async with Simulator(Options(venue="kraken", symbols=1, rate=10)) as sim:
        (tmp_path / "gateway.toml").write_text(
            f'[[feeds]]\nvenue = "kraken"\nsymbols = {json.dumps(sim.symbols)}\nurl = "{sim.ws}"\nrest_url = "{sim.rest}"\n[control]\n'
            '[log]\nlevel = "error"\nformat = "json"\n[serve]\nport = 0\n'
        )
        with (tmp_path / "stderr").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "truetape", "run", "gateway.toml"],
                cwd=tmp_path,
                env=environment(),
                stdout=log,
                stderr=log,
                text=True,
            )
        try:
            async with asyncio.timeout(20):
                while not (tmp_path / "run" / "truetape.sock").exists():
                    await asyncio.sleep(0.02)
            assert (tmp_path / "stderr").read_text() == "", "nothing of level error"
            assert (await asyncio.to_thread(run, "log", "info", "--format", "console", cwd=tmp_path)).returncode == 0
            assert (await asyncio.to_thread(run, "log", "info", "--format", "json", cwd=tmp_path)).returncode == 0
            wrong = await asyncio.to_thread(run, "log", "loud", cwd=tmp_path)
            assert wrong.returncode == 2
            assert "expected level = debug, info, warning, error" in wrong.stderr
            os.kill(process.pid, signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, 20) == 0
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    lines = (tmp_path / "stderr").read_text().splitlines()
    assert not lines[0].startswith("{"), "for a console"
    rows = [json.loads(line) for line in lines[1:]]
    assert [row["event"] for row in rows] == ["logs changed", "draining", "stopped"]
    assert {row["level"] for row in rows} == {"info"}

"""Tracebacks are forced where secrets are held, in the real process, locals shown and debug logging on; nothing that can be read holds one."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.app.conftest import ROOT, WITHIN_S, Program, environment, run
from tests.app.test_drain import free_port
from tests.app.test_secrets_served import said, scrape
from truetape.app.sim import Options, Simulator
from truetape.io.store import reader

MARK = "CANARY"
FEED, SIGNING, SINK = f'feed "{MARK}\\-ü', f"{MARK}-0123456789-0123456789-0123456789", f"sink-{MARK}"
PAGES = ("/livez", "/readyz", "/metrics", "/status", "/clients", "/")

PLACES: dict[str, tuple[str, int | None, str]] = {
    "dial": ("kraken", None, "dial_failed: Forced: forced: "),
    "fetch": ("binance", 1, "forced: "),
    "token": ("kraken", None, '"error": "Forced"'),
    "sink": ("kraken", None, "forced: "),
    "disk": ("kraken", None, "forced: "),
    "thread": ("kraken", None, "in a thread: Traceback"),
    "callback": ("kraken", 1, "Forced: forced: "),
    "collected": ("kraken", None, "Forced: forced: "),
}
"""Where it fails; a venue that goes there; how the program ends by itself, if it does; and what is told of it."""


def config(folder: Path, sim: Simulator, port: int) -> None:
    (folder / "gateway.toml").write_text(
        f'[[feeds]]\nvenue = "{sim.options.venue}"\nsymbols = {json.dumps(sim.symbols)}\nurl = "{sim.ws}?key={{secret}}"\n'
        f'rest_url = "{sim.rest}"\nsecret = "env:SABOTEUR_FEED"\nbackoff_first_s = 0.1\nbackoff_max_s = 0.3\n[journal]\n[control]\n'
        f'[log]\nlevel = "debug"\nformat = "json"\n[serve]\nport = {port}\ntoken_in_url = true\n'
        '[[serve.keys]]\nid = "one"\nsecret = "file:signing"\n'
        '[[sinks]]\nkind = "redis"\nurl = "redis://127.0.0.1:1/0"\nsecret = "env:SABOTEUR_SINK"\n'
    )
    (folder / "signing").write_text(SIGNING)


async def asked(folder: Path, port: int, token: str, env: dict[str, str]) -> list[str]:
    """All that this gateway tells anybody."""
    base = f"ws://127.0.0.1:{port}/v1/stream"
    texts = [await said(base, json.dumps({"type": "authenticate", "token": token}))]
    texts.append(await said(f"{base}?token={token}"))
    texts.append(await said(base, Authorization=f"Bearer {token}"))
    texts += [await asyncio.to_thread(scrape, port, path, token) for path in PAGES]
    status = await asyncio.to_thread(run, "status", "--json", cwd=folder, env=env)
    return [*texts, status.stdout, status.stderr]


async def until(claim: Any) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not claim():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("place", list(PLACES))
async def test_what_is_raised_where_secrets_are_held_shows_none(tmp_path: Path, place: str) -> None:
    venue, code, told = PLACES[place]
    env = environment(
        SABOTEUR_FEED=FEED, SABOTEUR_SINK=SINK, PYTHONASYNCIODEBUG="1", PYTHONPATH=f"{ROOT / 'src'}:{ROOT}"
    )
    port = free_port()
    async with Simulator(Options(venue=venue, symbols=2, rate=50)) as sim:
        config(tmp_path, sim, port)
        issued = await asyncio.to_thread(
            run, "token", "issue", "bob", "--role", "ops", "--config", "gateway.toml", cwd=tmp_path, env=env
        )
        assert issued.returncode == 0, issued.stderr
        token = issued.stdout.split()[-1]
        command = [sys.executable, "-X", "dev", "-m", "tests.app.saboteur", place, "run", "gateway.toml"]
        texts: list[str] = []
        with Program(command, env=env, cwd=tmp_path) as program:
            if code is None:
                await asyncio.to_thread(program.line, '"event": "started"')
                texts = await asked(tmp_path, port, token, env)
                await until(lambda: any(told in line for line in program.stderr))
                texts += await asked(tmp_path, port, token, env)
                program.process.terminate()
            ended = await asyncio.to_thread(program.wait)
            stderr = "\n".join(program.stderr)
            assert ended == (code or 0), stderr[-3000:]
    assert told in stderr, stderr[-3000:]
    assert "DEBUG is on" in stderr
    assert "***" in stderr or place == "token", "what was told of it had secrets in it"
    segments = b"".join(path.read_bytes() for path in sorted((tmp_path / "tape").iterdir()))
    texts += [stderr, "\n".join(program.stdout), segments.decode("latin-1")]
    texts.append(repr(list(reader.read(tmp_path / "tape"))))
    for secret in (MARK, token, token.rpartition(".")[2], SIGNING):
        assert [text[max(0, text.index(secret) - 200) :][:300] for text in texts if secret in text] == []


WRONG = {
    "too short": ('secret = "env:SABOTEUR_SHORT"', "at least 32 bytes"),
    "no key": ('alg = "EdDSA"\npublic = "file:broken.pem"', "expected a public key"),
    "no text": ('secret = "file:no-text"', "cannot be read"),
    "itself": (f'secret = "{SIGNING}"', "env:NAME"),
}


@pytest.mark.parametrize(("name", "place"), [*((name, "nowhere") for name in WRONG), ("too short", "config")])
def test_a_configuration_that_cannot_be_read_shows_no_secret(tmp_path: Path, name: str, place: str) -> None:
    wrong, words = WRONG[name]
    (tmp_path / "broken.pem").write_text(f"-----BEGIN PUBLIC KEY-----\n{MARK}\n-----END PUBLIC KEY-----\n")
    (tmp_path / "no-text").write_bytes(SIGNING.encode() + b"\xff")
    (tmp_path / "gateway.toml").write_text(
        f'[[feeds]]\nvenue = "kraken"\nsymbols = ["BTC-USD"]\nurl = "ws://127.0.0.1:1/"\n[serve]\nport = 0\n'
        f'[[serve.keys]]\nid = "one"\n{wrong}\n'
    )
    env = environment(SABOTEUR_SHORT=f"{MARK}-short", PYTHONPATH=f"{ROOT / 'src'}:{ROOT}")
    command = [sys.executable, "-X", "dev", "-m", "tests.app.saboteur", place, "run", "gateway.toml"]
    with Program(command, env=env, cwd=tmp_path) as program:
        code = program.wait()
    text = "\n".join(program.stderr + program.stdout)
    if place == "nowhere":
        assert code == 2 and words in text, text
    else:
        assert code == 1 and "Forced" in text, text
    assert MARK not in text

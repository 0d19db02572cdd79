"""Canary keys: in URLs, in outgoing frames, in references and behind them. They reach the venue, and nothing else that anybody can read."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import subprocess
import sys
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, quote_plus, urlsplit

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

import truetape
from tests.app.conftest import ROOT, WITHIN_S, Program, environment, run, truetape_command, write_config
from trace_room import Collector, about, events
from truetape.app import secrets
from truetape.io.store import reader

MARK = "CANARY"
KEY = f'tk live/+&%"\\{MARK}-ü'
"""As hard to carry as a key can be; whatever spelling of it comes out, the mark is in it."""
NEXT = f"tk-{MARK}-second"

STRANGER = '''
from truetape.venues import tickdb

class Dialect(tickdb.Dialect):
    """A venue that wants the key in a frame."""

    name = "stranger"
    url = "ws://127.0.0.1:1/"

    def subscribe(self, wants):
        return [b'{"cmd":"login","key":"{secret}"}', *super().subscribe(wants)]
'''


class Venue:
    """A server that notes which keys it was shown, and may repeat them, refuse or hang up."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.frames: list[Any] = []
        self.news = asyncio.Event()
        self.close = asyncio.Event()
        self.refuse = 0
        self.url = ""

    async def until(self, claim: Any) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not claim():
                self.news.clear()
                await self.news.wait()

    def _note(self, rows: list[Any], what: Any) -> None:
        rows.append(what)
        self.news.set()

    async def request(self, connection: ServerConnection, request: Request) -> Response | None:
        self._note(self.keys, parse_qs(urlsplit(request.path).query).get("api_key", [""])[0])
        return connection.respond(self.refuse, f"wrong key {self.keys[-1]}") if self.refuse else None

    async def talk(self, connection: ServerConnection) -> None:
        async def listen() -> None:
            async for message in connection:
                self._note(self.frames, json.loads(message))

        listening, closing = asyncio.create_task(listen()), asyncio.create_task(self.close.wait())
        await asyncio.wait([listening, closing], return_when=asyncio.FIRST_COMPLETED)
        if closing.done():
            self.close.clear()
            await connection.close(4001, f"key {self.keys[-1]} expired")
        closing.cancel()
        await listening


@asynccontextmanager
async def venue() -> AsyncIterator[Venue]:
    made = Venue()
    async with serve(made.talk, "127.0.0.1", 0, process_request=made.request, logger=_silent()) as server:
        made.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/realtime?api_key={{secret}}"
        yield made


def _silent() -> logging.Logger:
    """The server's own log writes keys at DEBUG; it is not what is tested."""
    logger = logging.getLogger("tests.silent")
    logger.disabled = True
    return logger


def tree_of(tmp_path: Path, url: str, secret: str, **feed: Any) -> dict[str, Any]:
    quick = {"backoff_first_s": 0.1, "backoff_max_s": 0.3}
    row = {"venue": "tickdb", "symbols": ["BTC-USDT"], "url": url, "secret": secret, **quick, **feed}
    return {"feeds": [row], "journal": {"dir": str(tmp_path / "tape")}, "control": {"socket": str(tmp_path / "s")}}


def journal_bytes(tape: Path) -> bytes:
    """The segments as they lie, and what they hold when unpacked."""
    raw = b"".join(path.read_bytes() for path in sorted(tape.iterdir()))
    return raw + "".join(repr(item) for item in reader.read(tape)).encode()


DEBUGGED = (
    "import logging; logging.basicConfig(level=logging.DEBUG); logging.debug('DEBUG is on');"
    "from truetape.app.cli.main import main; main()"
)


@pytest.mark.parametrize("kind", ["env", "file"])
async def test_a_key_reaches_the_venue_and_nothing_that_can_be_read(tmp_path: Path, kind: str) -> None:
    (tmp_path / "stranger.py").write_text(STRANGER)
    (tmp_path / "key").write_text(KEY + "\n", encoding="utf-8")
    secret = "env:TEST_KEY" if kind == "env" else f"file:{tmp_path / 'key'}"
    async with venue() as server:
        config = write_config(
            tmp_path / "gateway.toml", tree_of(tmp_path, server.url, secret, venue="stranger.", name="keyed")
        )
        config.write_text(config.read_text().replace('"stranger."', '"stranger_pkg.stranger"'))
        (tmp_path / "stranger_pkg").mkdir()
        (tmp_path / "stranger.py").rename(tmp_path / "stranger_pkg" / "stranger.py")
        env = environment(TEST_KEY=KEY, PYTHONPATH=f"{ROOT / 'src'}:{tmp_path}", PYTHONASYNCIODEBUG="1")
        texts: list[str] = []
        with Program([sys.executable, "-X", "dev", "-c", DEBUGGED, "run", str(config)], env=env) as program:
            await server.until(lambda: len(server.frames) >= 2)
            assert server.keys == [KEY]
            assert server.frames[0] == {"cmd": "login", "key": KEY}
            texts.append(Path(f"/proc/{program.pid}/cmdline").read_text())
            for options in (["--json"], []):
                done = await asyncio.to_thread(run, "status", "--socket", tmp_path / "s", *options)
                assert done.returncode == 0
                texts += [done.stdout, done.stderr]
            server.close.set()
            await server.until(lambda: len(server.keys) == 2)
            server.refuse = 502  # tried again; 401 would stop it
            server.close.set()
            await server.until(lambda: len(server.keys) >= 4)
            program.process.terminate()
            assert await asyncio.to_thread(program.wait) == 0, program.stderr
            texts += program.stdout + program.stderr
    assert any("expired" in line for line in program.stderr), "what the venue said is told"
    assert any("DEBUG is on" in line for line in program.stderr)
    for options in ([], ["--csv"], ["--kind", "sent", "--kind", "opened", "--kind", "lost"]):
        done = run("dump", tmp_path / "tape", *options, env=env)
        assert done.returncode == 0
        assert "api_key={secret}" in done.stdout, "the placeholder is recorded"
        texts += [done.stdout, done.stderr]
    done = run("check", config, "--json", env=env)
    assert done.returncode == 0, done.stderr
    texts += [done.stdout, done.stderr, config.read_text(), journal_bytes(tmp_path / "tape").decode("utf-8", "replace")]
    assert sum(text.count(MARK) for text in texts) == 0


async def test_a_rotated_file_is_read_on_the_next_dial(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(KEY, encoding="utf-8")
    async with venue() as server, truetape.open(tree_of(tmp_path, server.url, f"file:{path}")):
        await server.until(lambda: server.keys)
        path.write_text(NEXT)
        server.close.set()
        await server.until(lambda: len(server.keys) > 1)
        path.unlink()
        server.close.set()
        path.write_text("third")
        await server.until(lambda: len(server.keys) > 2)
    assert server.keys[:3] == [KEY, NEXT, "third"]
    assert secrets.redact(f"{KEY} {NEXT}") == "*** ***", "the old one is still nobody's business"


async def test_a_refused_key_stops_the_feed_until_there_is_another(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(KEY, encoding="utf-8")
    async with venue() as server:
        server.refuse = 401
        tree = tree_of(tmp_path, server.url, f"file:{path}")
        async with truetape.open(tree) as gateway:
            (link,) = gateway.pump.links.values()
            assert link.session is not None
            session = link.session
            told = gateway.subscribe("*", ["book"])
            async with asyncio.timeout(WITHIN_S):
                while session.state != "STOPPED":
                    await told.take()
            assert session.reason == "bad_key: refused: HTTP 401: wrong key ***"
            assert session.deadline is None, "nothing dials by itself"
            shown = len(server.keys)
            server.refuse = 0
            path.write_text(NEXT, encoding="utf-8")
            await server.until(lambda: len(server.frames) >= 1)
            assert server.keys == [KEY] * shown + [NEXT] and shown == 1
            server.refuse = 401
            server.close.set()
            async with asyncio.timeout(WITHIN_S):
                while session.state != "STOPPED":
                    await told.take()
            shown = len(server.keys)
            server.refuse = 0
            answer = gateway.answer({"do": "retry", "feed": "tickdb"})
            assert answer == {"ok": True, "connections": ["tickdb-1"]}
            await server.until(lambda: len(server.keys) > shown)
            assert "error" in gateway.answer({"do": "retry", "feed": "none"})


async def test_a_key_that_vanished_is_told_without_it_and_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(KEY, encoding="utf-8")
    async with venue() as server, truetape.open(tree_of(tmp_path, server.url, f"file:{path}")) as gateway:
        await server.until(lambda: server.keys)
        path.unlink()
        server.close.set()
        told = gateway.subscribe("*", ["book"])
        reasons: list[str] = []
        async with asyncio.timeout(WITHIN_S):
            while not any("cannot be read" in reason for reason in reasons):
                reasons += [event.reason for event in await told.take() if isinstance(event, truetape.Status)]
        path.write_text(NEXT)
        await server.until(lambda: len(server.keys) > 1)
    assert server.keys[1] == NEXT
    assert MARK not in " ".join(reasons)


async def test_no_log_record_and_no_exception_of_a_program_holds_a_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    texts: list[str] = []
    async with venue() as server:
        tree = tree_of(tmp_path, server.url, "env:TEST_KEY")
        server.refuse = 502
        gateway = truetape.open(tree)
        with pytest.raises(AssertionError) as bug:
            async with gateway:
                await server.until(lambda: len(server.keys) > 1)
                texts += [
                    json.dumps(gateway.status()),
                    repr(gateway.config),
                    repr(gateway.feeds),
                    repr(gateway.pump.links),
                ]
                gateway.driver.fail(AssertionError("a bug"))
                await asyncio.Event().wait()
        texts.append("".join(traceback.format_exception(bug.value)))
        tree["feeds"][0]["url"] = "ws://[::1/?api_key={secret}"
        async with truetape.open(tree) as gateway:
            told = gateway.subscribe("*", ["book"])
            async with asyncio.timeout(WITHIN_S):
                texts += [repr(event) for event in await told.take()]
    texts += [
        record.getMessage() + str(record.exc_info)
        for record in caplog.records
        if not record.name.startswith("websockets")
    ]
    assert [record for record in caplog.records if record.name == "truetape"], "the library does log"
    assert len(texts) > 6
    assert sum(text.count(MARK) for text in texts) == 0


async def test_spans_hold_no_key_whatever_a_venue_says(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The venue repeats the key in bodies and close frames, and the collector wants a token of its own, which it repeats too."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("TEST_KEY", KEY)
    monkeypatch.setenv("TEST_TOKEN", f"{MARK}-of-a-collector")
    with Collector() as collector:
        async with venue() as server:
            tree = tree_of(tmp_path, server.url, "env:TEST_KEY")
            tree["trace"] = {"endpoint": collector.url, "secret": "env:TEST_TOKEN", "batches": 1.0}
            async with truetape.open(tree) as gateway:
                await server.until(lambda: server.frames)
                server.refuse = 502
                server.close.set()
                await server.until(lambda: len(server.keys) >= 3)
                await collector.until(lambda: len(collector.named("connect", outcome="failed")) > 1, "failed attempts")
                collector.answer = 403
                await collector.until(lambda: gateway.status()["trace"]["last_error"], "the collector refuses")
                texts = [json.dumps(gateway.status()), repr(gateway.config)]
                collector.answer = 200
                server.refuse = 401
                await collector.until(lambda: collector.named("reconnect"), "the end of it: the key is refused")
    assert {headers["authorization"] for _, headers in collector.requests} == {f"Bearer {MARK}-of-a-collector"}
    first, (outage,) = collector.named("connect")[0], collector.named("reconnect")
    assert "authenticated" in events(first), "a venue that saw the key and let us in"
    assert about(first)["truetape.endpoint"].endswith("/v1/realtime")
    assert about(first)["truetape.said"].startswith("bad_request: closed_by_venue: 4001 key *** expired")
    assert about(outage)["truetape.outcome"] == "stopped"
    assert about(outage)["truetape.said"] == "bad_key: refused: HTTP 401: wrong key ***"
    texts += [body.decode("latin-1") for body in collector.bodies]
    texts += [
        record.getMessage() + str(record.exc_info)
        for record in caplog.records
        if not record.name.startswith("websockets")
    ]
    assert any("traces are not taken" in text and "no entry for Bearer ***" in text for text in texts)
    assert sum(text.count(MARK) for text in texts) == 0


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        ("env:NOT_SET_ANYWHERE", ["env:NOT_SET_ANYWHERE", "NOT_SET_ANYWHERE is not set", "export it"]),
        ("env:EMPTY_KEY", ["env:EMPTY_KEY", "empty"]),
        ("file:/nowhere/key", ["file:/nowhere/key", "cannot be read"]),
        ("file:/proc", ["file:/proc", "cannot be read"]),
        (KEY, ["expected a reference such as env:TICKDB_API_KEY"]),
        (f"vault:{KEY}", ["expected a reference such as env:TICKDB_API_KEY"]),
    ],
    ids=["missing", "empty", "no file", "a folder", "itself", "another kind"],
)
def test_a_wrong_reference_is_exit_2_from_every_command_that_needs_it(
    tmp_path: Path, secret: str, said: list[str]
) -> None:
    config = write_config(tmp_path / "gateway.toml", tree_of(tmp_path, "ws://127.0.0.1:1/?k={secret}", secret))
    for command in (
        ["run", config],
        ["check", config],
        ["watch", "tickdb:BTC-USDT", "--config", config, "--seconds", 1],
    ):
        done = run(*command, env={"EMPTY_KEY": ""})
        assert done.returncode == 2, (command, done.stderr)
        assert [word for word in said if word not in done.stderr] == [], done.stderr
        assert MARK not in done.stdout + done.stderr
    assert not (tmp_path / "tape").exists(), "nothing was begun"


def test_a_venue_that_needs_a_key_says_so(tmp_path: Path) -> None:
    done = run("watch", "tickdb:BTC-USDT", "--seconds", 1)
    assert done.returncode == 2
    assert "TICKDB_API_KEY is not set" in done.stderr


def test_no_command_takes_a_key() -> None:
    for command in ("run", "watch", "check", "symbols", "demo"):
        options = re.findall(r"--[a-z-]+", run(command, "--help").stdout)
        assert "--help" in options
        assert [option for option in options if re.search("key|secret|token|pass", option)] == []


def test_a_secret_is_shown_as_stars() -> None:
    secret = secrets.Secret("env:HOME")
    assert (str(secret), repr(secret), f"{secret}") == ("***",) * 3
    with pytest.raises(secrets.SecretError) as refused:
        secrets.Secret(KEY)
    assert MARK not in str(refused.value)


def test_redaction_knows_every_spelling_and_the_longest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SHORT", "abc-CANARY"), ("LONG", "abc-CANARY-and-more"), ("HARD", KEY)):
        monkeypatch.setenv(name, value)
        secrets.Secret(f"env:{name}").reveal()
    for text in ("abc-CANARY-and-more", KEY, quote(KEY), quote(KEY, safe=""), quote_plus(KEY), json.dumps(KEY)[1:-1]):
        assert secrets.redact(f"<{text}>") == "<***>"
    shown: Any = KEY
    for _ in range(4):
        shown = [shown, KEY.encode(), ascii(KEY)]
        assert MARK not in secrets.redact(repr(shown)), "as tracebacks with locals show it"
        shown = repr(shown)


def test_what_looks_like_a_token_is_redacted_though_it_was_never_a_secret_of_ours() -> None:
    token = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImsifQ.eyJzdWIiOiJib2IifQ.c2ln-bmF0_dXJl"
    assert secrets.redact(f"Bearer {token}, and eyJ alone") == "Bearer ***, and eyJ alone"
    assert secrets.redact(f"{token[:-20]} cut") == "*** cut"


def test_a_log_filter_takes_secrets_out_of_messages_and_tracebacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)
    secrets.Secret("env:TEST_KEY").reveal()
    try:
        raise ValueError(f"bad {KEY}")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "url %s", (KEY,), sys.exc_info())
    assert secrets.Redactor().filter(record)
    assert MARK not in logging.Formatter().format(record)
    assert "ValueError" in logging.Formatter().format(record)


def test_what_libraries_log_is_shielded_in_our_programs() -> None:
    code = (
        "import logging; from truetape.app import secrets; secrets.shield_logs(); secrets.Secret('env:TEST_KEY').reveal();"
        "import os; logging.getLogger('asyncio').error('lost %s', os.environ['TEST_KEY']); logging.getLogger('x').info('quiet')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(TEST_KEY=KEY), capture_output=True, text=True, check=True
    )
    assert done.stderr == "asyncio: lost ***\n"


def test_the_command_s_own_line_shows_no_key(tmp_path: Path) -> None:
    assert truetape_command("run", tmp_path)[-1] == str(tmp_path), "a path is all it gets"

"""`truetape top` in a terminal of 80 by 24: a pty, a gateway in a process of its own, keys as a person presses them."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from bus_servers import RedisServer
from tests.app.child import Child, free_port, until
from truetape.app.cli.top import Remote, compare, keys, press
from truetape.app.cli.top_screen import View, frame
from truetape.app.config import ConfigError
from truetape.app.stage import Stage

CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>]")


class Terminal:
    """A program in a pty; `seen` is all that it wrote, without colours."""

    def __init__(self, arguments: list[str], cwd: Path, columns: int = 80, lines: int = 24) -> None:
        self.pid, self.fd = pty.fork()
        if not self.pid:
            os.chdir(cwd)
            os.environ["TERM"] = "xterm-256color"
            os.environ.pop("COLUMNS", None)
            os.environ.pop("LINES", None)
            os.execv(sys.executable, [sys.executable, "-m", "truetape", *arguments])
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        os.set_blocking(self.fd, False)
        self.seen = ""
        self.code: int | None = None

    def read(self) -> str:
        """What came since the last time."""
        text = b""
        while True:
            try:
                part = os.read(self.fd, 65536)
            except BlockingIOError:
                break
            except OSError:  # the other side is closed
                break
            if not part:
                break
            text += part
        new = CODES.sub("", text.decode("utf-8", "replace"))
        self.seen += new
        return new

    def shows(self, what: str) -> None:
        """Wait until it does."""
        shown = ""

        def claim() -> bool:
            nonlocal shown
            shown += self.read()
            return re.search(what, shown) is not None

        try:
            until(claim, f"{what!r}")
        except AssertionError:
            print(self.seen[-3000:])
            raise

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def ended(self) -> int:
        """Its exit code."""

        def claim() -> bool:
            self.read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
            return self.code is not None

        until(claim, "an end")
        assert self.code is not None
        return self.code

    def close(self) -> None:
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)


@pytest.fixture
def stage() -> Iterator[Stage]:
    with Stage("kraken", symbols=3, rate=150) as sim:
        yield sim


@pytest.fixture
def child(stage: Stage, tmp_path: Path) -> Iterator[Child]:
    one = Child(tmp_path, stage.feed(), '[control]\nsocket = "c.sock"\n')
    one.start()
    yield one
    one.end()


@pytest.mark.parametrize("way", ["--socket", "--url"])
def test_it_shows_health_and_a_book_and_follows_keys(way: str, stage: Stage, child: Child, tmp_path: Path) -> None:
    where = ["--socket", "c.sock"] if way == "--socket" else ["--url", f"ws://127.0.0.1:{child.port}"]
    terminal = Terminal(["top", *where], tmp_path)
    try:
        terminal.shows(r"• LIVE [56]")
        terminal.shows(r"-?\d+\.\d\d bps")  # the book under the cursor
        first, second = stage.ids[0], stage.ids[1]
        assert first in terminal.seen
        terminal.type("j" if way == "--url" else "\x1b[B")
        terminal.type("j")
        terminal.shows(rf"{second}  LIVE \(checksum\)")
        child.learned(first)
        stage.fault(f"mute-symbol:{stage.symbols[0]}")
        terminal.shows(rf"! {first}/book LIVE → STALE nothing for")
        terminal.type("\x1b[Fn")
        terminal.shows(rf"{first}  STALE")
        terminal.type("q")
        assert terminal.ended() == 0
        assert "\x1b" not in terminal.seen.replace("\x1b[?", "")
    finally:
        terminal.close()


def test_it_says_that_the_gateway_is_gone_and_finds_it_again(child: Child, tmp_path: Path) -> None:
    terminal = Terminal(["top", "--socket", "c.sock"], tmp_path)
    try:
        terminal.shows("• LIVE")
        child.end(signal.SIGKILL)
        terminal.shows("not connected: control socket c.sock")
        child.start()
        terminal.shows("the gateway was restarted")
        terminal.shows("• LIVE")
        terminal.type("\x03")
        assert terminal.ended() == 130
    finally:
        terminal.close()


def test_without_a_gateway_or_a_terminal_it_does_not_hang(child: Child, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "truetape", "top", "--socket"]
    none = subprocess.run([*command, "nowhere.sock"], cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert none.returncode == 1
    assert "no gateway answers there" in none.stderr
    away = subprocess.run(
        [*command[:-1], "--url", f"http://127.0.0.1:{free_port()}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert away.returncode == 1
    assert away.stderr.startswith("truetape: no gateway at ws://127.0.0.1:")
    assert "Traceback" not in away.stderr
    once = subprocess.run([*command, "c.sock"], cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert once.returncode == 0
    assert "kraken-1" in once.stdout


def test_one_look_shows_a_sink(stage: Stage, tmp_path: Path) -> None:
    with RedisServer() as server:
        serve = f'[control]\nsocket = "c.sock"\n[[sinks]]\nkind = "redis"\nname = "cache"\nurl = "{server.url}"\n[trace]\nendpoint = "http://127.0.0.1:1"\n'
        child = Child(tmp_path, stage.feed(), serve)
        child.start()
        try:

            def shown() -> bool:
                command = [sys.executable, "-m", "truetape", "top", "--socket", "c.sock"]
                once = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
                return re.search(r"cache +UP +[1-9]", once.stdout) is not None

            until(shown, "the sink, up, with events published")
            command = [sys.executable, "-m", "truetape", "status", "--socket", "c.sock"]
            said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30).stdout
            assert re.search(r"sink cache: UP, published [1-9][\d,]*, \d+ wait, 0 reconnects", said)
            assert "traces to http://127.0.0.1:1/v1/traces: 0 of " in said
        finally:
            child.end()


def row(symbol: str, state: str = "LIVE") -> dict[str, object]:
    return {
        "venue": "kraken", "symbol": symbol, "channel": "book", "state": state, "evidence": "checksum", "reason": "", "age_s": 0.1,
    }  # fmt: skip


def tree(states: list[str], uptime_s: float = 10.0) -> dict[str, object]:
    return {
        "version": "1", "started": 1, "uptime_s": uptime_s, "memory": {"rss_mb": 70.0, "budget_mb": 512}, "loop_lag_ms": 1.0, "consumers": [],
        "subscriptions": [row(f"S{index}-USD", state) for index, state in enumerate(states)], "connections": [],
    }  # fmt: skip


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 60), (60, 20)])
def test_every_line_fits_the_window_with_a_thousand_symbols(width: int, height: int) -> None:
    view = View(tree(["LIVE"] * 990 + ["STALE"] * 10), at=500)
    console = Console(width=width, height=height, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(frame(view, width, height), height=height)
    lines = console.export_text().splitlines()
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)
    assert "kraken:S500-USD" in "\n".join(lines)
    assert "LIVE 990" in lines[0]


def sink(name: str, state: str = "UP", **more: object) -> dict[str, object]:
    ledger = {"conflated": 3, "dropped": 0, "expired": 0}
    counts = dict.fromkeys(("published", "expired", "refused", "abandoned", "reconnects", "queued", "queue_bytes"), 0)
    return {"name": name, "kind": "nats", "state": state, "last_error": "", "ledger": ledger, **counts, **more}


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 60), (60, 20)])
def test_sinks_have_a_table_and_those_that_are_away_come_first(width: int, height: int) -> None:
    rows = [sink("well", published=1234), sink("away", "DOWN", refused=1, abandoned=2, queued=77), sink("other")]
    links = [
        {
            "name": f"l{n}",
            "state": "OPEN",
            "rtt_ms": 1.0,
            "delay_ms_p50": 1.0,
            "delay_ms_p99": 2.0,
            "reconnects": 0,
            "frames": 5,
        }
        for n in range(3)
    ]
    view = View(tree(["LIVE"] * 400) | {"sinks": rows, "connections": links})
    view.events.appendleft(("12:00:00", "GAP", "the latest event"))
    console = Console(width=width, height=height, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(frame(view, width, height), height=height)
    text = console.export_text()
    lines = text.splitlines()
    assert len(lines) <= height and all(len(line) <= width for line in lines)
    at = next(index for index, line in enumerate(lines) if line.startswith("sink "))
    assert re.match(r"away +DOWN +0 +3 +3 +77", lines[at + 1]), "3 were lost"
    assert re.match(r"well \(and 1 more\) +UP +1,234", lines[at + 2])
    assert "the latest event" in text


def test_a_sink_that_goes_and_comes_is_an_event() -> None:
    before = tree(["LIVE"]) | {"sinks": [sink("bus"), sink("cache", "DOWN")]}
    view = View(tree(["LIVE"]) | {"sinks": [sink("bus", "DOWN", last_error="refused"), sink("cache")]})
    compare(view, before)
    words = {(state, words) for _, state, words in view.events}
    assert words == {("GAP", "sink bus: UP → DOWN refused"), ("LIVE", "sink cache: DOWN → UP")}


def test_keys_move_within_the_list_and_find_trouble() -> None:
    view = View(tree(["LIVE", "LIVE", "STALE", "LIVE", "GAP"]))
    for typed, expected in (("\x1b[A", 0), ("jj", 2), ("n", 4), ("n", 2), ("\x1b[F", 4), ("\x1b[5~", 0), ("w", 0)):
        assert all(press(view, key) for key in keys(typed))
        assert view.at == expected, typed
    assert view.chosen() is not None
    assert view.rows()[0]["state"] == "STALE", "worst first"
    assert not press(view, "q")


def test_what_happened_between_two_looks_is_an_event() -> None:
    before = tree(["SYNCING", "LIVE"])
    view = View(tree(["LIVE", "GAP"]))
    compare(view, before)
    assert [(state, words) for _, state, words in view.events] == [("GAP", "kraken:S1-USD/book LIVE → GAP ")]


def test_an_address_that_is_none_is_refused_with_what_was_expected() -> None:
    with pytest.raises(ConfigError, match="expected ws://host:port"):
        Remote("localhost:8787", "")
    with pytest.raises(ConfigError, match=r"ca_file nowhere\.pem: expected certificates in PEM"):
        Remote("wss://localhost:8787", "", Path("nowhere.pem"))

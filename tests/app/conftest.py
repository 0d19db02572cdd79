"""What the tests of the app share: real simulators and real programs, each stopped by its own pid, and waiting with a deadline."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

import truetape
from truetape.io.clock import now as clock

ROOT = Path(__file__).resolve().parent.parent.parent
WITHIN_S = 20.0
"""How long a test waits for what must come; a machine at work on other things is slow."""


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TRUETAPE_")}
    return {**kept, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "160", **more}


def truetape_command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "truetape", *map(str, arguments)]


def run(
    *arguments: object, within: float = 60.0, env: dict[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """A command to its end. Whatever it was given, it must not answer with a traceback."""
    done = subprocess.run(
        truetape_command(*arguments), capture_output=True, text=True, errors="replace", timeout=within, check=False,
        env=environment(**(env or {})), cwd=cwd,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done


def last_json(text: str) -> Any:
    """What a program reads of a command: the last line of its stdout."""
    return json.loads(text.strip().splitlines()[-1])


class Program:
    """A running program; what it says is read as it comes. Leaving the `with` kills it, by its pid."""

    def __init__(self, command: list[str], env: dict[str, str] | None = None, cwd: Path | None = None) -> None:
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
            env=env if env is not None else environment(), cwd=cwd,
        )  # fmt: skip
        self.stdout: list[str] = []
        self.stderr: list[str] = []
        self._lines: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self._readers = [
            threading.Thread(target=self._read, args=(pipe, kept, name), daemon=True)
            for name, pipe, kept in (
                ("stdout", self.process.stdout, self.stdout),
                ("stderr", self.process.stderr, self.stderr),
            )
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, pipe: Any, kept: list[str], name: str) -> None:
        for line in pipe:
            kept.append(line.rstrip("\n"))
            self._lines.put((name, kept[-1]))

    @property
    def pid(self) -> int:
        return self.process.pid

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def line(self, wanted: str, within: float = WITHIN_S) -> str:
        """The next line, of stdout or stderr, that has this in it."""
        until = clock() + round(within * 1e9)
        while (left := (until - clock()) / 1e9) > 0:
            try:
                _, line = self._lines.get(timeout=left)
            except queue.Empty:
                break
            if wanted in line:
                return line
        raise AssertionError(f"no line with {wanted!r} within {within} s; stdout {self.stdout}, stderr {self.stderr}")

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, within: float = WITHIN_S) -> int:
        """Until it ended by itself; its exit code."""
        code = self.process.wait(within)
        for reader in self._readers:
            reader.join(5)
        return code

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join(5)
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()


class Simulator(Program):
    """A simulated venue in a process of its own."""

    def __init__(self, venue: str, symbols: int = 3, rate: float = 200, port: int = 0, *options: object) -> None:
        self.venue = venue
        command = ("sim", "--venue", venue, "--symbols", symbols, "--rate", rate, "--port", port, *options)
        super().__init__(truetape_command(*command))
        said = json.loads(self.line('"ws"'))
        self.ws: str = said["ws"]
        self.rest: str = said["rest"]
        self.symbols: list[str] = said["symbols"]
        self.port = int(self.rest.rpartition(":")[2])

    def feed(self, **more: Any) -> dict[str, Any]:
        """A `[[feeds]]` table for it; it backs off quickly, so that tests do not wait."""
        quick = {"backoff_first_s": 0.1, "backoff_max_s": 0.5}
        return {"venue": self.venue, "symbols": self.symbols, "url": self.ws, "rest_url": self.rest, **quick, **more}

    def ids(self) -> list[str]:
        return [f"{self.venue}:{symbol}" for symbol in self.symbols]

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
        super().end()


@pytest.fixture(scope="session")
def kraken() -> Iterator[Simulator]:
    with Simulator("kraken") as simulator:
        assert isinstance(simulator, Simulator)
        yield simulator


@pytest.fixture(scope="session")
def binance() -> Iterator[Simulator]:
    with Simulator("binance") as simulator:
        assert isinstance(simulator, Simulator)
        yield simulator


@pytest.fixture(scope="session")
def tickdb() -> Iterator[Simulator]:
    with Simulator("tickdb") as simulator:
        assert isinstance(simulator, Simulator)
        yield simulator


@pytest.fixture
def simulate() -> Iterator[Callable[..., Simulator]]:
    """Simulators of a test's own, to be killed, frozen and started again as it likes."""
    made: list[Simulator] = []

    def make(venue: str, *arguments: Any, **named: Any) -> Simulator:
        made.append(Simulator(venue, *arguments, **named))
        return made[-1]

    yield make
    for simulator in made:
        simulator.end()


async def until(gateway: truetape.Gateway, claim: Callable[[], Any], within: float = WITHIN_S, what: str = "") -> None:
    """Wait until a claim about a running gateway holds: it is tried again whenever the gateway says anything."""
    said = gateway.subscribe("*", ["book", "trade"], mode=truetape.conflate(ms=0), name="until")
    try:
        async with asyncio.timeout(within):
            while not claim():
                await said.take()
    except TimeoutError:
        raise AssertionError(
            f"not so within {within} s: {what or 'the claim'}; status {json.dumps(gateway.status(), default=str)}"
        ) from None
    finally:
        said.close()


def states(gateway: truetape.Gateway, channel: str = "book") -> dict[str, str]:
    rows = gateway.status()["subscriptions"]
    return {f"{row['venue']}:{row['symbol']}": row["state"] for row in rows if row["channel"] == channel}


def all_live(gateway: truetape.Gateway) -> bool:
    return all(state == "LIVE" for state in states(gateway).values())


def toml(tree: dict[str, Any]) -> str:
    """A configuration's tree as the TOML that a person would write."""
    text = "".join(
        f"{key} = {json.dumps(value)}\n" for key, value in tree.items() if not isinstance(value, dict | list)
    )
    for feed in tree.get("feeds", []):
        text += "[[feeds]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in feed.items())
    for key, table in tree.items():
        if isinstance(table, dict):
            text += f"[{key}]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in table.items())
    return text


def write_config(path: Path, tree: dict[str, Any]) -> Path:
    path.write_text(toml(tree), encoding="utf-8")
    return path

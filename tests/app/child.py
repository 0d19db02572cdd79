"""`truetape run` as a real process, for tests that look at it from outside, kill it, and start it again."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Child:
    """`truetape run` with a configuration, on one port for all its lives."""

    def __init__(self, folder: Path, feed: dict[str, Any], serve: str = "", scheme: str = "http") -> None:
        self.port = free_port()
        self.origin = f"{scheme}://127.0.0.1:{self.port}"
        lines = [f"{key} = {json.dumps(value)}" for key, value in feed.items()]
        self.path = folder / "gateway.toml"
        self.path.write_text("[[feeds]]\n" + "\n".join(lines) + f"\n[serve]\nport = {self.port}\n{serve}\n")
        self.process: subprocess.Popen[bytes] | None = None
        self.noise = folder / "stderr"

    def start(self, files: int = 0) -> None:
        """With at most so many open files; 0: as many as this process. (Its own limit cannot be lowered for a while: it may have more open.)"""
        limited = ["/bin/sh", "-c", f'ulimit -S -n {files} && exec "$0" "$@"'] if files else []
        with self.noise.open("ab") as noise:
            self.process = subprocess.Popen(
                [*limited, sys.executable, "-m", "truetape", "run", str(self.path)],
                stdout=noise,
                stderr=noise,
                cwd=self.path.parent,
            )
        until(lambda: self.answers(), f"the gateway to listen: {self.noise.read_text()[-2000:]}")

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.noise.read_text()[-2000:]
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def learned(self, name: str) -> None:
        """Wait until the gateway knows the cadence of this book: only then is silence judged within seconds."""

        def known() -> bool:
            with urlopen(f"{self.origin}/status", timeout=10) as answer:
                rows = json.loads(answer.read())["subscriptions"]
            return any(
                row["samples"] >= 100
                for row in rows
                if (f"{row['venue']}:{row['symbol']}", row["channel"]) == (name, "book")
            )

        until(known, f"100 messages of the book {name}")

    def reload(self, text: str) -> None:
        """Another configuration, put in place in one step."""
        assert self.process is not None
        other = self.path.with_suffix(".next")
        other.write_text(text)
        other.rename(self.path)
        self.process.send_signal(signal.SIGHUP)

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(20)
            self.process = None


def until(claim: Callable[[], bool], what: str, within_s: float = 30.0) -> None:
    end = time.monotonic() + within_s
    while not claim():
        assert time.monotonic() < end, f"expected {what} within {within_s} s"
        time.sleep(0.02)  # between two looks

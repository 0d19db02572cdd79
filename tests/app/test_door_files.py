"""Sockets that never say anything, from several addresses, at a low limit on open files: the gateway's own work needs files too."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.app.child import Child, until
from truetape.app.cert import make
from truetape.app.stage import Stage
from truetape.io.serve.control import ask

FILES = 256
ADDRESSES = [f"127.0.0.{number}" for number in range(2, 6)]


class Siege:
    """From each address as many sockets as can be opened, held, and opened again when they are dropped."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._hold, args=(address,)) for address in ADDRESSES]

    def _hold(self, address: str) -> None:
        held: list[socket.socket] = []
        while not self._stop.wait(0.02):
            for one in held[:]:
                try:
                    if one.recv(1):
                        continue
                except BlockingIOError:
                    continue
                except OSError:
                    pass
                one.close()
                held.remove(one)
            while len(held) < FILES:
                try:
                    one = socket.create_connection(("127.0.0.1", self._port), 1, (address, 0))
                except OSError:
                    break
                one.setblocking(False)
                held.append(one)
        for one in held:
            one.close()

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.mark.parametrize("tls", [False, True])
def test_who_says_nothing_takes_no_file_from_the_venues_and_the_tape(tls: bool, tmp_path: Path) -> None:
    serve = '[control]\nsocket = "c.sock"\n[journal]\ndir = "tape"\nsegment_bytes = 65536\n[serve.limits]\nhandshakes_per_s = 0'
    if tls:  # then they are in a handshake that never begins
        make(tmp_path / "certs")
        serve += f'\n[serve.tls]\ncert_file = "{tmp_path}/certs/first.pem"\nkey_file = "{tmp_path}/certs/first.key"'
    with Stage("kraken", symbols=2, rate=500) as stage:
        child = Child(tmp_path, stage.feed(backoff_first_s=0.1, backoff_max_s=0.5), serve)
        child.start(files=FILES)

        def status() -> dict[str, Any]:
            return ask(tmp_path / "c.sock", {"do": "status"})

        def well() -> bool:
            return all(row["state"] == "LIVE" for row in status()["subscriptions"] if row["channel"] == "book")

        def files() -> int:
            assert child.process is not None
            return len(list(Path(f"/proc/{child.process.pid}/fd").iterdir()))

        def segments() -> int:
            return len(list((tmp_path / "tape").iterdir()))

        try:
            until(well, "books that are LIVE")
            with Siege(child.port):
                until(lambda: files() > FILES / 2, "the door to be crowded")
                for count in (1, 2):
                    stage.fault("close-1006")
                    until(lambda: status()["connections"][0]["reconnects"] >= count, "the link to be made again")  # noqa: B023
                    until(well, "books that are LIVE again")
                    rolled = segments()
                    until(lambda: segments() > rolled, "another segment of the tape")  # noqa: B023
                assert files() < FILES - 16, "what the gateway may need yet is free"
            assert "no more open files" not in child.noise.read_text()
            assert json.loads(json.dumps(status()["journal"]))["holes"] == 0
        finally:
            child.end()

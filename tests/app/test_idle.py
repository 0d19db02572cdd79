"""Many clients that say nothing: what the bench of ten thousand holds, held for a few, and how the hall looks after so many."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from truetape.core.serve.frames import Frames
from truetape.core.serve.peer import Peer, Rules
from truetape.io.clock import now as clock
from truetape.io.serve.client import Client
from truetape.io.serve.hall import LOOK_AT, Hall

ROOT = Path(__file__).resolve().parent.parent.parent
COUNT = 300


async def test_idle_clients_outlive_the_time_by_pinging_and_are_all_told() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.idle", str(COUNT), "12", cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(120):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    run = json.loads(out.splitlines()[-1])
    assert (run["left"], run["idle_closed"], run["told"]) == (1, 1, COUNT - 1), run
    assert run["kb"] < 30, run


class Pipe:
    """A pipe that takes everything, and keeps how it was closed."""

    def __init__(self) -> None:
        self.code = 0

    def frame(self, messages: Sequence[bytes]) -> bytes:
        return b"".join(messages)

    def write(self, wire: bytes) -> None:
        """Gone."""

    def waiting(self) -> int:
        return 0

    def close(self, code: int, text: str) -> None:
        self.code = code

    def abort(self) -> None:
        self.code = 1006


async def test_many_clients_are_looked_at_by_turns_and_none_is_forgotten() -> None:
    failed: list[Exception] = []
    frames = Frames(str)
    hall = Hall(frames, 0.0, failed.append)
    rules = Rules(version="1", epoch="e", tokens=False, idle_s=0.001)
    desk: Any = None  # nobody subscribes
    pipes = [Pipe() for _ in range(3 * LOOK_AT)]
    for number, pipe in enumerate(pipes):
        peer = Peer(desk, rules, "json", clock())
        hall.clients[Client(number, pipe, peer, frames, "127.0.0.1", high=1, write_ns=10**9)] = None
    begun = 0

    def beat(_now: int) -> None:
        nonlocal begun
        begun += 1

    hall.on_beat = beat
    hall.start()
    try:
        async with asyncio.timeout(10):
            before = 0
            while (closed := sum(pipe.code == 4002 for pipe in pipes)) < len(pipes):
                assert closed - before <= LOOK_AT
                before = closed
                await asyncio.sleep(0)
        assert begun == 1, "one beat, however many there are"
    finally:
        hall.stop()
    assert not failed

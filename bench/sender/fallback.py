"""The sender in Python, for machines without a C compiler: the same options, the same lines on stdout as sender.c.

It spends more CPU per frame and its pace is rougher, so the harness says when a figure was made with it.
"""

import argparse
import asyncio
import json
import socket
import struct
import time
from pathlib import Path

from bench.sender.peer import Peer, accept, header

CLOSE_1000 = b"\x88\x02\x03\xe8"


class Frames:
    """The frames file as wire bytes in one buffer, with where each frame and its stamps lie."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        if data[:4] != b"TTF1":
            raise SystemExit(f"{path}: expected a frames file")
        wire, at = bytearray(), 8
        self.ends, self.stamps = [0], []
        for _ in range(struct.unpack_from("<I", data, 4)[0]):
            length, ms_at, frac_at = struct.unpack_from("<Iii", data, at)
            wire += header(1, length)
            base = len(wire)
            wire += data[at + 12 : at + 12 + length]
            self.stamps.append((base + ms_at if ms_at >= 0 else -1, base + frac_at if frac_at >= 0 else -1))
            self.ends.append(len(wire))
            at += 12 + length
        self.wire = wire
        self.view = memoryview(wire)
        self.n = len(self.stamps)

    def stamp(self, first: int, last: int, now_ns: int) -> None:
        """Write the instant into frames first to last (exclusive)."""
        ms = b"%013d" % (now_ns // 1_000_000)
        frac = b"%09d" % (now_ns % 1_000_000_000)
        for ms_at, frac_at in self.stamps[first:last]:
            if ms_at >= 0:
                self.wire[ms_at : ms_at + 13] = ms
            if frac_at >= 0:
                self.wire[frac_at : frac_at + 9] = frac


class Pace:
    """Which frames are due, and the sending of them."""

    def __init__(self, options: argparse.Namespace, frames: Frames, peer: Peer) -> None:
        self.options = options
        self.frames = frames
        self.peer = peer
        self.sent = 0
        self.late_max_ns = 0
        self.late_1ms = 0
        self.start = 0
        self.rate = float(options.rate)
        self.burst = int(options.burst)

    def due_ns(self, k: int) -> int:
        """When frame k is due, on the steady clock."""
        return self.start + int(k // self.burst * self.burst * 1e9 / self.rate)

    def due_count(self, now: int) -> int:
        """How many frames are due, none past the end of the file."""
        start = self.sent % self.frames.n
        most = min(self.frames.n - start, int(self.options.count) - self.sent)
        if self.rate <= 0:
            return min(most, 100)
        elapsed = int((now - self.start) / 1e9 * self.rate / self.burst) * self.burst + self.burst
        return max(0, min(most, elapsed - self.sent))

    async def run(self) -> float:
        """Send everything; the seconds it took."""
        self.start = time.perf_counter_ns()
        to_wall = time.time_ns() - self.start
        behind, turns = False, 0
        while self.sent < self.options.count and not self.peer.closing:
            now = time.perf_counter_ns()
            n = self.due_count(now)
            if n == 0:
                behind = False
                await self.wait(self.due_ns(self.sent))
                continue
            due = self.due_ns(self.sent) if self.rate > 0 else now
            if not behind:
                self.late_max_ns = max(self.late_max_ns, now - due)
                self.late_1ms += now - due > 1_000_000
            first = self.sent % self.frames.n
            if self.options.stamp:
                self.frames.stamp(first, first + n, to_wall + (due if behind else now))
            blocked = self.peer.blocked
            ends = self.frames.ends
            await self.peer.send(self.frames.view[ends[first] : ends[first + n]])
            self.sent += n
            behind = self.rate > 0 and (behind or self.peer.blocked > blocked)
            turns += 1
            if turns % 64 == 0:
                await asyncio.sleep(0)
                await self.peer.flush()
        return (time.perf_counter_ns() - self.start) / 1e9

    async def wait(self, until_ns: int) -> None:
        """Sleep most of the way and spin the rest."""
        left = until_ns - time.perf_counter_ns()
        if left > 1_500_000:
            await asyncio.sleep((left - 1_000_000) / 1e9)
        await self.peer.flush()
        while time.perf_counter_ns() < until_ns:
            pass


async def serve(options: argparse.Namespace) -> bool:
    """One client from its upgrade to its close."""
    frames = Frames(Path(options.frames_file))
    listener = socket.create_server(("127.0.0.1", options.port))
    listener.setblocking(False)
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    peer = await accept(listener, options)
    ear = asyncio.create_task(peer.listen())
    if options.wait_texts:
        await peer.enough.wait()
    await asyncio.sleep(options.settle_ms / 1000)
    peer.streaming = True
    pace = Pace(options, frames, peer)
    took = await pace.run()
    await peer.flush()
    await peer.send(CLOSE_1000)
    await asyncio.wait([ear], timeout=3)
    ear.cancel()
    line = {
        "sent": pace.sent,
        "seconds": round(took, 6),
        "cpu_s": round(time.process_time(), 3),
        "blocked": peer.blocked,
        "texts": peer.texts,
        "late_max_us": pace.late_max_ns / 1e3,
        "late_1ms": pace.late_1ms,
    }
    print(json.dumps(line), flush=True)
    return bool(pace.sent == options.count)


def main() -> None:
    """Read the options of sender.c and run."""
    parser = argparse.ArgumentParser(description="send pre-built frames to one client")
    parser.add_argument("--frames-file", required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--burst", type=int, default=1)
    parser.add_argument("--wait-texts", type=int, default=0)
    parser.add_argument("--ack")
    parser.add_argument("--pong")
    parser.add_argument("--settle-ms", type=int, default=0)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--stamp", action="store_true")
    parser.add_argument("--chunk", type=int, default=65536, help="taken for likeness; frames go in hundreds here")
    parser.add_argument("--max-seconds", type=float, default=120.0)
    parser.add_argument("--rest-file")
    options = parser.parse_args()
    options.rest_body = Path(options.rest_file).read_bytes() if options.rest_file else None
    try:
        whole = asyncio.run(asyncio.wait_for(serve(options), options.max_seconds))
    except TimeoutError:
        whole = False
    raise SystemExit(0 if whole else 1)


if __name__ == "__main__":
    main()

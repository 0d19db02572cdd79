"""Readers for test_stalled_clients, in a process of their own: `python -m tests.app.stalled_readers PORT COUNT PROBES`.

Each counts the trades that it got; the first PROBES also read them: delay from the stamp, numbers without a hole. `ready` once all stand, then
each line on stdin is answered with a JSON line: counts of all since the beginning, holes, delays of the probes since the last line, ms.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import sys
import time
from typing import Any

TRADE = b'"kind":"trade"'
FIELDS = re.compile(rb'"recv":(\d+)[^}]*?"id":"(\d+)"')
SUBSCRIBE = b'{"type":"subscribe","id":1,"symbols":["kraken:*"],"channels":["trade"],"bound":100000}'
QUIET_S = 1.0


class Reader(asyncio.Protocol):
    """A client that reads at all times."""

    def __init__(self, probe: bool) -> None:
        self.probe, self.up = probe, False
        self.tail = b""
        self.count = self.holes = 0
        self.last = -1
        self.delays: list[float] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        key = base64.b64encode(os.urandom(16))
        transport.write(
            b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: " + key + b"\r\n\r\n"
        )

    def data_received(self, data: bytes) -> None:
        now = time.time_ns()
        if not self.up:
            self.up = True
            self.transport.write(bytes((0x81, 0x80 | len(SUBSCRIBE))) + bytes(4) + SUBSCRIBE)
        data = self.tail + data
        if not self.probe:
            self.count += data.count(TRADE)
            self.tail = data[1 - len(TRADE) :]
            return
        end = 0
        for found in FIELDS.finditer(data):
            end = found.end()
            self.count += 1
            self.delays.append((now - int(found[1])) / 1e6)
            number = int(found[2])
            self.holes += self.last >= 0 and number != self.last + 1
            self.last = number
        self.tail = data[max(end, len(data) - 2000) :]


async def main(port: int, count: int, probes: int) -> None:
    loop = asyncio.get_running_loop()
    readers = [Reader(at < probes) for at in range(count)]
    for reader in readers:
        await loop.create_connection(lambda reader=reader: reader, "127.0.0.1", port)  # type: ignore[misc]
    print("ready", flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        seen = -1
        while seen != sum(reader.count for reader in readers):
            seen = sum(reader.count for reader in readers)
            await asyncio.sleep(QUIET_S)
        delays = sorted(delay for reader in readers for delay in reader.delays)
        for reader in readers:
            reader.delays.clear()
        p99 = delays[len(delays) * 99 // 100] if delays else 0.0
        print(
            json.dumps({"counts": [r.count for r in readers], "holes": sum(r.holes for r in readers), "p99": p99}),
            flush=True,
        )


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))

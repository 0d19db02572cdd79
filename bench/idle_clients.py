"""The clients of the idle bench: `python -m bench.idle_clients PORT COUNT`; the first line that it reads has their tokens.

It answers each line with JSON: `ping` (all but the first client; how many were answered), `subscribe`, `told` (how many had an event), and
`ended` (close codes of those that are gone).
"""

import asyncio
import base64
import json
import os
import resource
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import uvloop

SUBSCRIBE = b'{"type":"subscribe","id":1,"symbols":["kraken:*"],"channels":["trade"]}'
ADDRESSES = 10
PER_S = 90
"""New connections a second from one address, below what the gateway allows."""
QUIET_S = 1.0


class Client(asyncio.Protocol):
    """One WebSocket client, frugal: it keeps no more than the beginning of a frame."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.buffer = b""
        self.greeted = self.subscribed = self.told = False
        self.pongs = 0
        self.code = 0

    def connection_made(self, transport: Any) -> None:
        """Ask for the upgrade."""
        self.transport = transport
        key = base64.b64encode(os.urandom(16)).decode()
        transport.write(
            "GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\nAuthorization: Bearer {self.token}\r\n\r\n".encode()
        )
        self.head = True

    def data_received(self, data: bytes) -> None:
        """Whole frames out of it."""
        data = self.buffer + data
        if self.head:
            head, found, rest = data.partition(b"\r\n\r\n")
            if not found:
                self.buffer = data
                return
            assert b" 101 " in head, head
            self.head, data = False, rest
        while len(data) >= 2:
            size, at = data[1], 2
            if size == 126:
                size, at = int.from_bytes(data[2:4], "big"), 4
            if len(data) < at + size:
                break
            self.heard(data[0] & 15, data[at : at + size])
            data = data[at + size :]
        self.buffer = data

    def heard(self, opcode: int, payload: bytes) -> None:
        """One frame."""
        if opcode == 10:
            self.pongs += 1
        elif opcode == 8:
            self.code = int.from_bytes(payload[:2], "big")
            self.transport.close()
        elif b'"type":"hello"' in payload:
            self.greeted = True
        elif b'"type":"subscribed"' in payload:
            self.subscribed = True
        elif b'"kind":"trade"' in payload:
            self.told = True

    def connection_lost(self, exc: Exception | None) -> None:
        """Without a close frame it is a 1006."""
        self.code = self.code or 1006

    def say(self, opcode: int, payload: bytes = b"") -> None:
        """One masked frame; the mask is none."""
        if not self.code:
            self.transport.write(bytes((0x80 | opcode, 0x80 | len(payload))) + bytes(4) + payload)


async def until_quiet(count: Callable[[], int]) -> int:
    """The count, once it grows no more."""
    seen = -1
    while seen != (seen := count()):  # noqa: ASYNC110  plain counting is what is cheap here
        await asyncio.sleep(QUIET_S)
    return seen


async def answered(clients: list[Client], what: str) -> dict[str, int]:
    """Do one thing with all of them."""
    if what == "ping":
        before = sum(client.pongs for client in clients)
        for client in clients[1:]:
            client.say(9)
        return {"pongs": await until_quiet(lambda: sum(client.pongs for client in clients)) - before}
    if what == "subscribe":
        for client in clients:
            client.say(1, SUBSCRIBE)
        return {"subscribed": await until_quiet(lambda: sum(client.subscribed for client in clients))}
    if what == "told":
        return {"told": await until_quiet(lambda: sum(client.told for client in clients))}
    return {str(code): count for code, count in Counter(client.code for client in clients if client.code).items()}


async def main(port: int, count: int) -> None:
    """Connect them all, then answer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 20_000)), hard))
    loop = asyncio.get_running_loop()
    tokens = sys.stdin.readline().split()
    clients = [Client(tokens[n % len(tokens)]) for n in range(count)]
    for n, client in enumerate(clients):
        source = (f"127.0.0.{2 + n % ADDRESSES}", 0)
        await loop.create_connection(lambda client=client: client, "127.0.0.1", port, local_addr=source)  # type: ignore[misc]
        if n % (ADDRESSES * PER_S // 10) == 0:
            await asyncio.sleep(0.1)
    print(json.dumps({"greeted": await until_quiet(lambda: sum(client.greeted for client in clients))}), flush=True)
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(await answered(clients, line.strip())), flush=True)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))

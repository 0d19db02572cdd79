"""The clients of the fan-out bench, as cheap as they can be: `python -m bench.fanout_clients PORT COUNT ours|theirs`.

Says `ready` once all are in; then answers each line with how many events came, when no more come.
"""

import asyncio
import base64
import os
import resource
import sys

import uvloop

SUBSCRIBE = b'{"type":"subscribe","id":1,"symbols":["kraken:*"],"channels":["trade"],"bound":100000}'
KIND = b'"kind":"trade"'
QUIET_S = 0.5


class Client(asyncio.Protocol):
    """One WebSocket client that counts."""

    ready = 0
    events = 0
    speaks = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the upgrade."""
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self.transport = transport
        self.up = False
        self.tail = b""
        key = base64.b64encode(os.urandom(16))
        transport.write(  # type: ignore[attr-defined]  # uvloop's is no asyncio.Transport by type
            b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + b"\r\n\r\n"
        )

    def data_received(self, data: bytes) -> None:
        """Count the trades in it; frames are not parsed, for that would be the bench's own cost."""
        data = self.tail + data
        Client.events += data.count(KIND)
        self.tail = data[1 - len(KIND) :]
        if not self.up:
            self.up = True
            Client.ready += 1
            if Client.speaks:
                size = len(Client.speaks)
                self.transport.write(bytes((0x81, 0x80 | size)) + bytes(4) + Client.speaks)  # type: ignore[attr-defined]  # as above


async def main(port: int, count: int, how: str) -> None:
    """Connect them all, then answer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 20_000)), hard))
    Client.speaks = SUBSCRIBE if how == "ours" else b""
    loop = asyncio.get_running_loop()
    for _ in range(count):
        await loop.create_connection(Client, "127.0.0.1", port)
    while Client.ready < count:  # noqa: ASYNC110  plain counting is what is cheap here
        await asyncio.sleep(0.01)
    print("ready", flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        seen = -1
        while seen != Client.events:
            seen = Client.events
            await asyncio.sleep(QUIET_S)
        print(seen, flush=True)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))

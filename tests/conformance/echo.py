"""An echo server on the gateway's door, for the RFC 6455 suite: `python -m tests.conformance.echo PORT`."""

import asyncio
import sys

import uvloop

from truetape.core.serve.rfc6455 import BINARY, TEXT, head
from truetape.io.serve.door import Doors
from truetape.io.serve.gateway import Answer, Request, Socket, listen

BYTES = 17 << 20  # the suite's largest message is 16 MiB


class Echo:
    """Says again what it hears."""

    subprotocol = ""
    bytes_max = BYTES
    fragments_max = 1 << 20

    def __init__(self) -> None:
        self._socket: Socket | None = None

    def opened(self, socket: Socket, address: str) -> None:
        self._socket = socket

    def message(self, data: bytes, kind: str) -> None:
        assert self._socket is not None
        self._socket.write(head(len(data), TEXT if kind == "text" else BINARY) + data)

    def heard(self) -> None:
        """Nothing to do."""

    def drained(self) -> None:
        """Nothing waits."""

    def gone(self) -> None:
        self._socket = None


class Host:
    """Everybody may come in."""

    def get(self, request: Request) -> Answer:
        return Answer(404)

    def upgrade(self, request: Request) -> Answer | Echo:
        return Echo()


async def main(port: int) -> None:
    server = await listen(Host(), Doors(0), "127.0.0.1", port, None, BYTES)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))

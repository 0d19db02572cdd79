"""A venue in a process of its own, to be stopped, cut off or made deaf: it beats its heart, five times a second, for every client.

On stdin: `deaf` (it reads nothing more, and goes on talking). The first line of stdout is the port.
Arguments: the address, and a file with key and certificates where it is to speak TLS.
"""

from __future__ import annotations

import asyncio
import ssl
import sys

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

EVERY_S = 0.2
clients: set[ServerConnection] = set()


async def beat(client: ServerConnection) -> None:
    clients.add(client)
    reading = asyncio.ensure_future(hear(client))
    try:
        while True:
            await client.send('{"channel":"heartbeat"}')
            await asyncio.sleep(EVERY_S)
    except ConnectionClosed:
        pass
    finally:
        clients.discard(client)
        reading.cancel()


async def hear(client: ServerConnection) -> None:
    async for _ in client:
        pass


async def main(address: str, pem: str = "") -> None:
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    secure = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) if pem else None
    if secure is not None:
        secure.load_cert_chain(pem)
    async with serve(beat, address, 0, ssl=secure, compression=None, ping_interval=None, max_size=1 << 26) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        while order := (await orders.readline()).strip():
            assert order == b"deaf", order
            for client in clients:
                client.transport.pause_reading()


asyncio.run(main(*sys.argv[1:]))

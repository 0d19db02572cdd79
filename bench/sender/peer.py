"""The fallback sender's one client: upgrade, its own frames answered, our bytes written whole. As peer.c does."""

import argparse
import asyncio
import base64
import hashlib
import re
import socket
import struct
import time

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def header(opcode: int, length: int) -> bytes:
    """The header of an unmasked server frame."""
    if length < 126:
        return struct.pack(">BB", 0x80 | opcode, length)
    if length < 65536:
        return struct.pack(">BBH", 0x80 | opcode, 126, length)
    return struct.pack(">BBQ", 0x80 | opcode, 127, length)


class Peer:
    """The one client: what it said, and the answers that wait for a frame boundary."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.sock: socket.socket | None = None
        self.heard = bytearray()
        self.answers = bytearray()
        self.texts = 0
        self.enough = asyncio.Event()  # the texts waited for have come, or the client is gone
        self.streaming = False
        self.blocked = 0
        self.closing = False

    async def listen(self) -> None:
        """Take in what the client sends until it goes away."""
        loop = asyncio.get_running_loop()
        assert self.sock is not None, "the peer was accepted before it is listened to"
        while not self.closing:
            try:
                data = await loop.sock_recv(self.sock, 65536)
            except OSError:
                data = b""
            self.heard += data
            while self.one_frame():
                pass
            self.closing |= not data
            if self.closing or self.texts >= self.options.wait_texts:
                self.enough.set()
            if not self.streaming:
                await self.flush()

    def one_frame(self) -> bool:
        """Take one whole frame off what was heard."""
        heard = self.heard
        if len(heard) < 2:
            return False
        length, at = heard[1] & 0x7F, 2
        if length >= 126:
            width = 2 if length == 126 else 8
            if len(heard) < at + width:
                return False
            length, at = int.from_bytes(heard[2 : 2 + width], "big"), at + width
        mask = bytes(heard[at : at + 4]) if heard[1] & 0x80 else b"\0\0\0\0"
        at += 4 if heard[1] & 0x80 else 0
        if len(heard) < at + length:
            return False
        body = bytes(byte ^ mask[i & 3] for i, byte in enumerate(heard[at : at + length]))
        self.take(heard[0] & 0x0F, body)
        del heard[: at + length]
        return True

    def take(self, opcode: int, body: bytes) -> None:
        """Decide the answer to one frame."""
        if opcode == 9:
            self.answers += header(10, len(body)) + body
        elif opcode == 8:
            self.closing = True
        elif opcode == 1:
            self.texts += 1
            pong = self.options.pong if b'"ping"' in body else None
            text = pong or self.options.ack
            if text:
                clock = f"{time.time_ns() // 1_000_000:013d}"
                answer = text.replace("0000000000000", clock, 1).encode()
                self.answers += header(1, len(answer)) + answer

    async def send(self, data: memoryview | bytes) -> None:
        """Write everything, and count when the socket was full."""
        assert self.sock is not None, "the peer was accepted before it is sent to"
        try:
            n = self.sock.send(data)
        except BlockingIOError:
            n = 0
        except OSError:
            self.closing = True
            return
        if n < len(data):
            self.blocked += 1
            try:
                await asyncio.get_running_loop().sock_sendall(self.sock, memoryview(data)[n:])
            except OSError:
                self.closing = True

    async def flush(self) -> None:
        """Send the answers that wait."""
        if self.answers:
            data, self.answers = bytes(self.answers), bytearray()
            await self.send(data)


async def accept(listener: socket.socket, options: argparse.Namespace) -> Peer:
    """Answer plain requests until one asks for a WebSocket."""
    loop = asyncio.get_running_loop()
    while True:
        sock, _ = await loop.sock_accept(listener)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = b""
        while b"\r\n\r\n" not in head and (data := await loop.sock_recv(sock, 16384)):
            head += data
        key = re.search(rb"(?i)\r\nsec-websocket-key:\s*(\S+)", head)
        if key is not None:
            digest = base64.b64encode(hashlib.sha1(key[1] + GUID).digest())
            await loop.sock_sendall(
                sock,
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + digest + b"\r\n\r\n",
            )
            peer = Peer(options)
            peer.sock = sock
            return peer
        body = options.rest_body or b""
        status = b"404 Not Found" if options.rest_body is None else b"200 OK"
        fixed = b"Content-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
        await loop.sock_sendall(sock, b"HTTP/1.1 " + status + b"\r\n" + fixed + body)
        sock.close()

"""Making one connection: TCP within `dial_s`, TLS, the WebSocket handshake within `handshake_s`; or the reason why there is none.

Next door: `driver.py` asks for it and applies what follows; `http.py` fetches.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any, cast

from msgspec import Struct
from picows import WSInvalidStatusError, WSListener, WSTransport, ws_connect

from truetape.io.amends import Ear, hushed
from truetape.io.net.http import retry_after
from truetape.io.net.pins import Pins, WrongPin

SAID_MAX = 2000
"""Characters kept of the body that comes with a refusal."""


class Dialing(Struct, frozen=True):
    """How the connections of one feed are made. `secret` is asked on each dial; it raises LookupError, with a text without the secret."""

    handshake_s: float = 10.0
    dial_s: float = 5.0
    close_s: float = 10.0
    secret: Callable[[], str] | None = None
    ssl_context: ssl.SSLContext | None = None
    proxy: str | None = None
    message_max: int = 64 * 1024 * 1024
    pins: Pins | None = None  # those that guard `ssl_context`
    headers: dict[str, str] = {}


class Failed(Exception):
    """No connection was made. `reason` begins with a name of `model.reason`; `code`: HTTP status, 0 without an answer; `said`: its body."""

    def __init__(self, reason: str, code: int = 0, retry_after_s: float = -1.0, said: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code
        self.retry_after_s = retry_after_s
        self.said = said


async def dial(listener: WSListener, url: str, how: Dialing, reached: Callable[[], None] = lambda: None) -> WSTransport:
    """Connect `listener` to `url`; it hears `on_ws_connected` before this returns, keeps `transport` from then on, and answers pings.

    Raises Failed, and leaves nothing open then. `reached` is told when TCP stands, with a proxy as far as that.
    """
    held: list[socket.socket] = []

    async def reach(where: Any) -> socket.socket:
        held.append(await _reach(where.host, where.port, how.dial_s))
        reached()
        return held[-1]

    made = None
    try:
        with hushed(asyncio.get_running_loop()):
            async with asyncio.timeout(how.dial_s + how.handshake_s):
                secure: dict[str, Any] = {"ssl_handshake_timeout": how.dial_s} if url.startswith("wss:") else {}
                transport, made = await ws_connect(
                    lambda: listener,
                    url,
                    ssl_context=(how.ssl_context or _system()) if secure else None,
                    websocket_handshake_timeout=how.handshake_s,
                    logger_name=cast("Any", Ear(listener)),
                    enable_auto_pong=False,  # a ping may be wrong too
                    max_frame_size=how.message_max,
                    proxy=how.proxy,
                    extra_headers=how.headers or None,
                    max_redirects=0,
                    # aiofastnet reads on as long as the socket has more, and consumers wait meanwhile (60,000 messages were seen in one
                    # go); the loop's own transport stops after 2 MB. For TLS aiofastnet is worth it.
                    use_aiofastnet=bool(secure) and how.pins is None,
                    socket_factory=reach,
                    **secure,
                )
        if made is None:
            raise Failed("dial_failed: the connection was closed during the handshake")
        return transport
    except Failed:
        raise
    except Exception as error:  # noqa: BLE001  whatever libraries find in an address or an answer; the session decides when to try again
        raise _why(error, url, how) from None
    finally:
        if made is None:
            for sock in held:
                with suppress(OSError):
                    sock.shutdown(
                        socket.SHUT_RDWR
                    )  # its transport, which picows keeps to itself, sees the end and closes


def _why(error: Exception, url: str, how: Dialing) -> Failed:
    """What became of a dial, in the session's words."""
    match error:
        case WSInvalidStatusError():
            response = error.response
            status, after = (0, "") if response is None else (response.status, response.headers.get("Retry-After", ""))
            said = (error.raw_body or b"")[:SAID_MAX]  # what came with the head; seldom all, mostly enough
            return Failed(
                f"refused: HTTP {int(status)}", int(status), retry_after(after), said.decode("utf-8", "replace")
            )
        case WrongPin():
            return Failed(f"wrong_pin: {error}")
        case TimeoutError() if str(error):  # picows has a text for it, asyncio has none
            return Failed(f"dial_failed: no answer to the handshake within {how.handshake_s:g} s")
        case TimeoutError():
            return Failed(f"dial_failed: not connected within {how.dial_s + how.handshake_s:g} s")
    asks = "; is TLS spoken there?" if url.startswith("wss:") else ""
    why = str(error) or f"hung up in the handshake{asks}"  # a reset has no words of its own
    return Failed(f"dial_failed: {type(error).__name__}: {why}")


def breach_of(transport: WSTransport) -> tuple[str, int] | None:
    """What was wrong and which close code it was given, where picows hung up by itself: the other side broke the protocol."""
    if not transport.is_close_frame_sent or transport.close_handshake.recv_then_sent:
        return None
    sent = transport.close_handshake.sent
    assert sent is not None, "a close frame was sent"
    return str(sent.reason), int(sent.code.value)


def _receive_buffer(host: str) -> int:
    """Bytes that the kernel may hold, and so the most that one read hands us: it is judged in one go, and consumers wait meanwhile.

    The kernel's own limit of 6 MB would be 14,000 messages. On this machine 128 KiB (about 800) lose no speed, and the default box of 1,000
    outlives a full one; across the world a connection needs 1 MiB for 10 MB/s.
    """
    return 128 * 1024 if host == "::1" or host.startswith("127.") else 1024 * 1024


async def _reach(host: str, port: int, within_s: float) -> socket.socket:
    """A TCP connection; where a name has several addresses, each has its share of the time."""
    loop = asyncio.get_running_loop()
    why = f"no connection within {within_s:g} s"
    try:
        async with asyncio.timeout(within_s):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            for family, kind, protocol, _, address in found:
                sock = socket.socket(family, kind, protocol)
                try:
                    sock.setblocking(False)
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _receive_buffer(str(address[0])))
                    async with asyncio.timeout(within_s / len(found)):
                        await loop.sock_connect(sock, address)
                    return sock
                except OSError as error:
                    sock.close()
                    why = _said(error) or why
                except BaseException:
                    sock.close()
                    raise
    except OSError as error:
        why = _said(error) or why
    raise Failed(f"dial_failed: {host}:{port}: {why}")


def _said(error: OSError) -> str:
    """What the system calls it; event loops word the same fault each in their own way. Empty for a timeout."""
    return os.strerror(error.errno) if error.errno is not None and error.errno > 0 else error.strerror or ""


@cache
def _system() -> ssl.SSLContext:
    """The system's certificates, read once: it takes 20 ms."""
    return ssl.create_default_context()

"""The control socket: one JSON object a line in, one a line out, on a Unix socket that only its owner can open.

The driver knows nothing of what is asked: `answer` (the app's) turns a request into a reply. Requests are at most 64 KiB.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

LINE_MAX = 64 * 1024
REPLY_MAX = 64 * 1024 * 1024
PATH_MAX = 100
"""The system's limit is 108 bytes, with the zero at the end."""


Answer: TypeAlias = dict[str, Any] | Awaitable[dict[str, Any]]


class ControlError(Exception):
    """The socket cannot be opened or reached: says which and why."""


class Taken(ControlError):
    """It cannot be listened there, as configured."""


class ControlServer:
    """Serves `answer` at a path. Stale sockets of a dead process are replaced; a living one is an error."""

    def __init__(self, path: Path, answer: Callable[[dict[str, Any]], Answer]) -> None:
        self.path = path
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._clients: dict[asyncio.StreamWriter, asyncio.Event] = {}

    async def start(self) -> None:
        """Listen. Raises Taken."""
        free(self.path, "control socket")
        try:
            self._server = await asyncio.start_unix_server(self._serve, sock=bound(self.path), limit=LINE_MAX)
        except OSError as error:
            raise Taken(
                f"control socket {self.path}: {error.strerror or error}; set another [control] socket"
            ) from None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        gone = self._clients[writer] = asyncio.Event()
        try:
            while line := await reader.readline():
                reply = self._reply(line)
                told = reply if isinstance(reply, dict) else await reply
                writer.write(msgspec.json.encode(told) + b"\n")
                await writer.drain()
        except ValueError:
            writer.write(msgspec.json.encode({"error": f"expected a line of at most {LINE_MAX} bytes"}) + b"\n")
        except ConnectionError:
            pass  # the client went
        finally:
            writer.close()
            del self._clients[writer]
            gone.set()

    def _reply(self, line: bytes) -> Answer:
        try:
            request = msgspec.json.decode(line, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return {"error": f"expected one JSON object a line: {error}"}
        return self._answer(request)

    async def close(self) -> None:
        """Stop listening, remove the socket, and let the clients go."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        with suppress(FileNotFoundError):
            self.path.unlink()
        waiting = list(self._clients.items())
        for writer, _ in waiting:
            writer.close()
        for writer, gone in waiting:
            try:
                async with asyncio.timeout(1):
                    await gone.wait()
            except TimeoutError:
                writer.transport.abort()


def free(path: Path, what: str) -> None:
    """Make room for a socket: its folder is made, one that nobody answers at is removed. Raises Taken."""
    at, table = f"{what} {path}", what.partition(" ")[0]
    if len(os.fsencode(path)) > PATH_MAX:
        raise Taken(f"{at}: expected a path of at most {PATH_MAX} bytes; set [{table}] socket to a shorter one")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink() or path.exists():
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise Taken(
                    f"{at}: expected no file or an old socket, found another file; set another [{table}] socket"
                )
            if _answers(path):
                raise Taken(f"{at}: another gateway answers there; stop it or set another [{table}] socket")
            path.unlink()
    except OSError as error:
        raise Taken(f"{at}: {error.strerror or error}; set another [{table}] socket") from None


def bound(path: Path) -> socket.socket:
    """A listening socket that never was open to others: bound in one breath with the mask, for that is the whole process's."""
    made = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    try:
        made.bind(str(path))
    except BaseException:
        made.close()
        raise
    finally:
        os.umask(mask)
    return made


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def ask(path: Path, request: dict[str, Any], timeout_s: float = 5.0) -> dict[str, Any]:
    """One question to a running gateway, from a program without an event loop. Raises ControlError."""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(timeout_s)
            client.connect(str(path))
            client.sendall(msgspec.json.encode(request) + b"\n")
            reply = bytearray()
            while not reply.endswith(b"\n") and len(reply) < REPLY_MAX:
                part = client.recv(1 << 20)
                if not part:
                    raise ControlError(f"control socket {path}: the gateway closed without an answer")
                reply += part
        return msgspec.json.decode(reply, type=dict[str, Any])
    except OSError as error:
        raise ControlError(
            f"control socket {path}: no gateway answers there ({error.strerror or error}); is it running?"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ControlError(f"control socket {path}: expected a gateway's answer, found something else") from None

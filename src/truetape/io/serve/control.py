"""The control socket: one JSON object a line in, one a line out, on a Unix socket that only its owner can open.

The driver knows nothing of what is asked: `answer` (the app's) turns a request into a reply. Requests are at most 64 KiB.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

LINE_MAX = 64 * 1024


class ControlError(Exception):
    """The socket cannot be opened or reached: says which and why."""


class ControlServer:
    """Serves `answer` at a path. Stale sockets of a dead process are replaced; a living one is an error."""

    def __init__(self, path: Path, answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self.path = path
        self._answer = answer
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. Raises ControlError."""
        if len(os.fsencode(self.path)) > 100:
            raise ControlError(
                f"control socket {self.path}: expected a path of at most 100 bytes; set [control] socket to a shorter one"
            )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            if _answers(self.path):
                raise ControlError(
                    f"control socket {self.path}: another gateway answers there; stop it or set another [control] socket"
                )
            self.path.unlink()
        mask = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._serve, str(self.path), limit=LINE_MAX)
        except OSError as error:
            raise ControlError(f"control socket {self.path}: {error.strerror}") from None
        finally:
            os.umask(mask)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                try:
                    request = msgspec.json.decode(line, type=dict[str, Any])
                    reply = self._answer(request)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    reply = {"error": f"expected one JSON object a line: {error}"}
                writer.write(msgspec.json.encode(reply) + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError):
            pass  # the client went, or sent a line beyond the limit
        finally:
            writer.close()

    async def close(self) -> None:
        """Stop listening and remove the socket."""
        if self._server is not None:
            self._server.close()
            with suppress(FileNotFoundError):
                self.path.unlink()


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
            reply = b""
            while not reply.endswith(b"\n"):
                part = client.recv(1 << 20)
                if not part:
                    raise ControlError(f"control socket {path}: the gateway closed without an answer")
                reply += part
    except OSError as error:
        raise ControlError(
            f"control socket {path}: no gateway answers there ({error.strerror or error}); is it running?"
        ) from None
    return msgspec.json.decode(reply, type=dict[str, Any])

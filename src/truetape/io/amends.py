"""What picows does otherwise than we promise, mended from outside, for the rooms that stand on it.

picows reads one frame ahead. Where that one is wrong it says so before the frame in front of it was delivered: to a client that sends two close
frames in one read it answers the second with 1002, where the first should be answered and the rest be nobody's (RFC 6455, 5.5.1). And where
a venue broke the protocol it keeps that as an exception for whoever waits for the end of the connection; if nobody does, the loop complains.
aiofastnet, where no file can be opened for a socket that came, would stop asking for a second, and asks the wrong object to: an exception in
each turn of the loop. Next door: `io.net` and `io.serve` use them.
"""

from __future__ import annotations

import asyncio
import socket
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol, TypeAlias

from truetape.core.serve.rfc6455 import may_be_sent

NORMAL = 1000
RETRY_S = 1.0
Handler: TypeAlias = Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object]


class Ear:
    """What picows takes for its logger: it hears of a wrong frame just before the close frame for it is sent, the only moment to come first.

    `owner.transport` is the picows transport. Nothing is logged: what is worth a line is said by whoever owns the connection, and at DEBUG
    picows would write request lines, and with them keys.
    """

    __slots__ = ("_owner",)

    def __init__(self, owner: object = None) -> None:
        self._owner: Callable[[], object] = _nobody if owner is None else weakref.ref(owner)

    def of(self, owner: object) -> None:
        """Whose it is, where that could not be said at first. It keeps nobody alive: picows' objects would be a ring."""
        self._owner = weakref.ref(owner)

    def error(self, *_said: object, **_more: object) -> None:
        """Where a close frame had come already, that is what is answered; picows sends nothing more then."""
        transport = getattr(self._owner(), "transport", None)
        if transport is None or transport.is_close_frame_sent or (shake := transport.close_handshake) is None:
            return
        if shake.recv is not None and shake.sent is None and may_be_sent(code := int(shake.recv.code) or NORMAL):
            transport.send_close(code)

    def isEnabledFor(self, _level: int) -> bool:  # noqa: N802  the logger's name for it
        """At no level."""
        return False

    def log(self, *_said: object, **_more: object) -> None:
        """Not here."""

    debug = info = warning = exception = log


def retrieve(told: Coroutine[Any, Any, object]) -> None:
    """Take the exception out of a future that is done, and that only a coroutine of picows' gives away."""
    with suppress(Exception, StopIteration, asyncio.CancelledError):
        told.send(None)
    told.close()


def _nobody() -> None:
    """Nobody's yet."""


class _Hush:
    """A loop's exception handler while somebody dials: what it does not keep to itself goes to the one that stood there before."""

    def __init__(self, before: Handler | None) -> None:
        self.before = before
        self.dials = 0

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        made_by = type(context.get("transport")).__module__
        if made_by.startswith("aiofastnet") and str(context.get("message", "")).startswith("SSL"):
            return
        (self.before or type(loop).default_exception_handler)(loop, context)


@contextmanager
def hushed(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """While this lasts a TLS handshake that fails is told only to who dialed; aiofastnet tells the loop too, with an exception that logging
    cannot even print. The loop may be a program's own: its handler is put back, unless the program has set another by then."""
    there = loop.get_exception_handler()
    hush = there if isinstance(there, _Hush) else _Hush(there)
    loop.set_exception_handler(hush)
    hush.dials += 1
    try:
        yield
    finally:
        hush.dials -= 1
        if not hush.dials and loop.get_exception_handler() is hush:
            loop.set_exception_handler(hush.before)


class Porch(Protocol):
    """Who counts sockets from `accept` on."""

    def arrives(self, one: socket.socket, place: tuple[Any, ...]) -> bool:
        """One of this address and port was accepted; False where it has to go."""

    def arrived(self, place: tuple[Any, ...]) -> None:
        """Its protocol has it, or will have it at once, or it was closed."""


class _Counted:
    """A listening socket as aiofastnet's server sees it: what there is no room for was closed before it could be seen."""

    def __init__(self, listening: socket.socket, porch: Porch, places: dict[socket.socket, tuple[Any, ...]]) -> None:
        self._listening = listening
        self._porch = porch
        self._places = places

    def accept(self) -> tuple[socket.socket, tuple[Any, ...]]:
        """As a socket's own; the server goes on to the next one after a connection that was aborted."""
        one, place = self._listening.accept()
        if not self._porch.arrives(one, place):
            one.close()
            raise ConnectionAbortedError
        self._places[one] = place
        return one, place


def accept_patiently(server: Any, porch: Porch) -> None:
    """Have an aiofastnet server, which must not serve yet, take no more sockets than the porch has room for; others it closes unheard. Where
    no file can be opened all the same, it waits a second; those who stand go on meanwhile."""
    accept, shake = server._accept_connection, server._accept_connection2
    places: dict[socket.socket, tuple[Any, ...]] = {}

    def patient(listening: Any) -> None:
        loop = asyncio.get_running_loop()
        try:
            accept(_Counted(listening, porch, places))
        except AttributeError:
            loop.remove_reader(listening.fileno())
            loop.call_later(RETRY_S, again, listening)

    def again(listening: Any) -> None:
        if listening.fileno() >= 0:  # not closed meanwhile
            server._start_serving_one_listener(listening)

    async def counted(one: socket.socket) -> None:
        place = places.pop(one)
        try:
            await shake(one)
        finally:
            porch.arrived(place)

    server._accept_connection = patient
    server._accept_connection2 = counted

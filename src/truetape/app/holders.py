"""Who holds how many bytes in this process, and who gives some of them up when memory is short.

Next door: `core/guard.py` says when and in which order; `pulse.py` samples and carries its orders here; `core/route/shed.py` knows mailboxes.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, TypeAlias

from truetape.core.guard import Kind
from truetape.core.route import shed
from truetape.core.route.mailbox import Mailbox
from truetape.core.serve.box import ClientBox
from truetape.core.serve.native import NativeRoom

if TYPE_CHECKING:
    from truetape.app.live import Gateway
    from truetape.app.serve import Service

CONNECTION, NATIVE_LEVEL = 15_000, 120
"""Bytes of a connection that said nothing but hello (of 1,000: resident memory before and after), and of a level in a book that is told on."""
LOOKED_AT = 16
"""Requests of a bot that the weight of all is estimated from."""
FIXED = ("books", "native_books", "sinks", "journal", "connections")
"""What is declared and never shed: books would have to be asked for again, what sinks have in hand and the tape's backlog have bounds of
their own, and who stays connected has a connection."""


def held(gateway: Gateway) -> dict[str, int]:
    """Bytes by who declares them, estimated."""
    boxes = {False: 0, True: 0}  # by whether a downstream client's
    for box in _mailboxes(gateway):
        boxes[isinstance(box, ClientBox)] += shed.weigh(box)
    service = gateway.service
    return {
        "mailboxes": boxes[False],
        "client_boxes": boxes[True],
        "client_buffers": _buffers(service) if service is not None else 0,
        "frames": service.frames.held if service is not None else 0,
        "history": service.histories.bytes if service is not None else 0,
        "reports": len(gateway.pump.gaps) * shed.GAP,
        "books": shed.weigh_books(gateway.pump.links.values()),
        "native_books": _native_books(service) if service is not None else 0,
        "sinks": sum(sink.held for sink in gateway.sinks.sinks),
        "journal": gateway.journal.backlog_bytes if gateway.journal is not None else 0,
        "connections": CONNECTION * (len(service.hall.clients) + len(service.natives.visits))
        if service is not None
        else 0,
    }


def _mailboxes(gateway: Gateway) -> list[Mailbox]:
    """All that something may lie in: those of consumers, and those that several clients are filled by."""
    return [*gateway.boxes, *(gateway.service.hall.leaders if gateway.service is not None else ())]


def yielding(found: dict[str, int]) -> int:
    """How much of what is declared could be shed."""
    return sum(size for holder, size in found.items() if holder not in FIXED)


def give_up(gateway: Gateway, kind: Kind, want: int, now: int) -> tuple[int, int]:
    """Shed about `want` bytes of this kind; returns how many pieces (events, rows, clients) and bytes went."""
    service = gateway.service
    if kind in ("superseded", "oldest"):
        return shed.relieve(_mailboxes(gateway), want, now, superseded=kind == "superseded")
    if kind == "reports":
        gaps = gateway.pump.gaps
        count = min(len(gaps), -(-want // shed.GAP))
        for _ in range(count):
            gaps.popleft()
        return count, count * shed.GAP
    if service is None:
        return 0, 0
    if kind == "frames":
        return service.frames.forget()
    return service.histories.shed(want) if kind == "history" else _hang_up(service, want, now)


Stuck: TypeAlias = tuple[bool, int, int, Callable[[], None]]
"""A client that could go: whether its pipe is full, bytes that lie in it, its place among all, and what ends it."""


def _hang_up(service: Service, want: int, now: int) -> tuple[int, int]:
    """Cut whose sockets hold most, first those that take nothing. They may come back, and resume, or read the whole books again."""

    def cut(at: int) -> Callable[[], None]:
        client = clients[at]
        return lambda: client.cut("memory is short, and more waited for this client than for others", now)

    clients, visits = list(service.hall.clients), list(service.natives.visits.values())
    rows: list[Stuck] = [(bool(one.blocked_since), one.buffered, -at, cut(at)) for at, one in enumerate(clients)]
    rows += [(not one.roomy(), one.buffered, -len(clients) - at, one.cut) for at, one in enumerate(visits)]
    gone = freed = 0
    for _, size, _, end in sorted(rows, key=lambda row: row[:3], reverse=True):
        if freed >= want:
            break
        if size:
            end()
            gone, freed = gone + 1, freed + size
    return gone, freed


def _buffers(service: Service) -> int:
    """What sockets did not take yet, and what is not read to its end: half messages, and requests of bots that do not read the answers."""
    waiting = sum(client.buffered for client in service.hall.clients)
    waiting += sum(visit.buffered for visit in service.natives.visits.values())
    return waiting + sum(_asked(speaker.room) for speaker in service.natives.speakers.values())


def _asked(room: NativeRoom) -> int:
    total = 0
    for bot in room.bots.values():
        if count := len(bot.todo):
            few = list(islice(bot.todo, LOOKED_AT))
            total += sum(len(one.data) for one in few) * count // len(few)
    return total


def _native_books(service: Service) -> int:
    rows = [row for speaker in service.natives.speakers.values() for row in speaker.room.listed.values()]
    return NATIVE_LEVEL * sum(len(row.bids.keys) + len(row.asks.keys) for row in rows)

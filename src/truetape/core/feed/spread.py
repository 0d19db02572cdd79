"""Which symbol goes to which of so many connections: rendezvous hashing with bounded load, so that few move when others come and go.

Symbols are placed one after the other, in an order of their own: large before small, heavy before light, then by a hash of the name. Each
takes, of the connections that have room, the one with the highest hash of (connection, name). Two things follow. A symbol that comes or
goes concerns only those placed after it, and each full connection hands on at most one of them: while the number of connections and their
bound stay, an addition moves at most one symbol for each connection but one. And a further connection takes symbols, it exchanges none
but for those chains.

The bound is the average load, rounded up to a step of an eighth: it stays the same for most additions, and no connection carries more than
an eighth and one symbol above the average. Next door: `plan.py` says what there is to place and what is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from math import log2

from msgspec import Struct

UNIT = 16
"""Weight of one message a second; also that of a symbol whose rate nobody measured, where no rate is known at all."""


class Item(Struct, frozen=True):
    """A symbol to place: `size` subscriptions that stay together, `weight` by its rate."""

    key: str
    size: int
    weight: int = UNIT


class Room(Struct):
    """What one connection carries already. `number` is part of its name and of all hashes."""

    number: int
    symbols: int = 0
    size: int = 0
    load: int = 0


def weight(rate: float) -> int:
    """Messages per second -> weight, in steps of a half power of two: a rate that is measured again seldom changes it."""
    return max(1, round(UNIT * 2 ** (round(2 * log2(max(rate, 1 / UNIT))) / 2)))


def bound(total: int, rooms: int) -> int:
    """The load that a connection takes without need: the average, rounded up to a step of an eighth."""
    average = -(-total // max(1, rooms))
    step = 1
    while step < average:
        step += max(1, step // 8)
    return step


def pick(item: Item, rooms: Sequence[Room], symbols_max: int, size_max: int, load_max: int) -> Room | None:
    """The connection for one more symbol, None where all are full. 0 means no limit."""
    free = [
        room
        for room in rooms
        if (not symbols_max or room.symbols < symbols_max) and (not size_max or room.size + item.size <= size_max)
    ]
    even = [room for room in free if room.load + item.weight <= load_max]
    if even:
        return max(even, key=lambda room: _rank(item.key, room.number))
    return min(free, key=lambda room: (room.load, -_rank(item.key, room.number)), default=None)


def put(item: Item, room: Room) -> None:
    """Count it in."""
    room.symbols += 1
    room.size += item.size
    room.load += item.weight


def spread(items: Sequence[Item], count: int, symbols_max: int, size_max: int) -> Mapping[str, int] | None:
    """Key -> the number of its connection, 1 to `count`; None where they do not all fit."""
    rooms = [Room(number) for number in range(1, count + 1)]
    unit = UNIT if len({item.weight for item in items}) == 1 else 1
    load_max = bound(sum(item.weight for item in items) // unit, count) * unit
    homes: dict[str, int] = {}
    for item in sorted(items, key=lambda item: (-item.size, -item.weight, _rank(item.key, 0))):
        room = pick(item, rooms, symbols_max, size_max, load_max)
        if room is None:
            return None
        put(item, room)
        homes[item.key] = room.number
    return homes


def _rank(key: str, number: int) -> int:
    return int.from_bytes(blake2b(f"{number} {key}".encode(), digest_size=8).digest())

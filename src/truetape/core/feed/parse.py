"""Exact parsers that several dialects share: times, decimal text, levels, and what can be saved of a damaged frame.

Venue files call these; nothing here knows a venue.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from truetape.model.event import Level

T = TypeVar("T")
INFINITY = float("inf")

_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?\d*(Z|[+-]\d\d:\d\d)?$")


@lru_cache(maxsize=64)
def _days(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 in the proleptic Gregorian calendar (Howard Hinnant's civil-days arithmetic)."""
    if not (1 <= month <= 12 and 1 <= day <= 31):
        raise ValueError(f"no such date: {year:04}-{month:02}-{day:02}")
    year -= month <= 2
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


@lru_cache(maxsize=16)
def _minute(head: str) -> int:
    """Seconds since the epoch of `YYYY-MM-DDTHH:MM`; messages of one minute share the work."""
    return (
        _days(int(head[0:4]), int(head[5:7]), int(head[8:10])) * 86400 + int(head[11:13]) * 3600 + int(head[14:16]) * 60
    )


def rfc3339_ns(text: str) -> int:
    """Nanoseconds since the epoch of an RFC 3339 time; digits beyond nine are cut. Raises ValueError."""
    if text[-1:] == "Z" and text[10:11] == "T" and text[19:20] == "." and (fraction := text[20:-1]).isdecimal():
        return _fits((_minute(text[:16]) + int(text[17:19])) * 1_000_000_000 + int(fraction[:9].ljust(9, "0")))
    match = _TIME.match(text)
    if match is None:
        raise ValueError(f"expected an RFC 3339 time, found {text[:40]!r}")
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    zone = match[8] or "Z"
    offset = 0 if zone == "Z" else (1 if zone[0] == "+" else -1) * (int(zone[1:3]) * 3600 + int(zone[4:6]) * 60)
    seconds = _days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset
    return _fits(seconds * 1_000_000_000 + int((match[7] or "0").ljust(9, "0")))


def _fits(ns: int) -> int:
    """Times that do not fit 64 bits (before 1677, after 2262) cannot be recorded."""
    if -(2**63) <= ns < 2**63:
        return ns
    raise ValueError(f"expected a time of our centuries, found {ns // 1_000_000_000} s")


def seconds_ns(text: str) -> int:
    """Nanoseconds of a decimal count of seconds, exact: `1534614057.321597` -> 1534614057321597000."""
    whole, _, fraction = text.partition(".")
    return _fits(int(whole) * 1_000_000_000 + int(fraction[:9].ljust(9, "0") if fraction else 0))


def decimals(step: str) -> int:
    """Digits after the point that a step such as `0.00100000` stands for: 3; `1` and `10` give 0; `1e-8` gives 8."""
    mantissa, _, exponent = step.lower().partition("e")
    fraction = mantissa.partition(".")[2].rstrip("0")
    return max(0, len(fraction) - int(exponent or 0))


def number(text: str) -> float:
    """A finite number of 0 or more. Raises ValueError."""
    value = float(text)
    if not 0.0 <= value < INFINITY:
        raise ValueError(f"expected a finite number of 0 or more, found {text[:30]!r}")
    return value


def signed(text: str) -> float:
    """A finite number that may lie below 0, such as a funding rate. Raises ValueError."""
    value = float(text)
    if not -INFINITY < value < INFINITY:
        raise ValueError(f"expected a finite number, found {text[:30]!r}")
    return value


class TextLevel(Struct, array_like=True, gc=False):
    """`["price", "size", ...]` whose digits a checksum needs; what follows them is passed over."""

    price: str
    size: str


def side(rows: Sequence[TextLevel]) -> list[Level]:
    """The numbers of one side of a book. Raises ValueError for what is no finite price above 0 with a size."""
    levels = [(float(row.price), float(row.size)) for row in rows]
    for price, size in levels:
        if not (0.0 < price < INFINITY and 0.0 <= size < INFINITY):
            raise ValueError(f"expected a finite price above 0 and a size, found {price} and {size}")
    return levels


_AT = re.compile(r" - at `\$(?P<path>.*)`$")
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")
LOST_MAX = 64
"""Members that are taken out of one frame before it is given up."""


def salvage(
    data: bytes, decoder: msgspec.json.Decoder[T], items: str | tuple[str, ...], names: tuple[str, ...]
) -> tuple[T, list[str]]:
    """Decode a frame whose list `items` holds a member that the typed decoder refuses, without that member.

    `items` is the key of the list in the frame's object (`data`), empty where the frame itself is the list. Where lists lie in
    lists, several may be named, inner ones first (`events.trades`, `events`): a member goes alone where its own list is named.
    Returns the decoded frame and, for each member that was taken out, the first of `names` that it, or what it lay in, holds as
    text (its symbol), or an empty string. Raises the decoder's own error where the damage is not inside a member.
    """
    try:
        return decoder.decode(data), []
    except msgspec.ValidationError as error:
        first = error
    tree: Any = msgspec.json.decode(data)
    lists = [tuple(filter(None, item.split("."))) for item in ((items,) if isinstance(items, str) else items)]
    lost: list[str] = []
    for _ in range(LOST_MAX):
        try:
            return msgspec.convert(tree, decoder.type, strict=False), lost
        except msgspec.ValidationError as error:
            at = _AT.search(str(error))
            name = _take_out(tree, at["path"] if at else "", lists, names)
            if name is None:
                raise first from None
            lost.append(name)
    raise first


def _take_out(tree: Any, path: str, lists: list[tuple[str, ...]], names: tuple[str, ...]) -> str | None:
    """Remove the member of one of `lists` that `path` leads into; its name, None where it leads into none."""
    steps = [key or int(index) for key, index in _STEP.findall(path)]
    for wanted in lists:
        keys: list[str] = []
        around: list[object] = []
        here = tree
        for step in steps:
            if isinstance(step, int) and tuple(keys) == wanted:
                around.append(here.pop(step))
                return next((name for part in reversed(around) if (name := _named(part, names))), "")
            keys += [step] if isinstance(step, str) else []
            here = here[step]
            around.append(here)
    return None


def peek(data: bytes, key: str) -> str:
    """The text that a damaged frame's object still has at `key`, empty where there is none. Raises on what is no JSON."""
    tree = msgspec.json.decode(data)
    found = tree.get(key) if isinstance(tree, dict) else None
    return found if isinstance(found, str) else ""


def _named(member: object, names: tuple[str, ...]) -> str:
    if isinstance(member, dict):
        for name in names:
            if isinstance(found := member.get(name), str):
                return found
    return ""

"""Drift is quarantined: what a venue sends beyond what we know is counted and sampled; a price that changed its type is told.

    sampled frame --first of its channel--> learned      --later--> compared: None, or why the stream is to be SUSPECT

A typed, lax decode reads "1.5" and 1.5 alike and passes over new keys: it hides that a venue changed. This room reads a sample of
frames again, generically: the first of each channel, then one in so many, as the caller decides. Next door: the venue file, whose
wire structs say which keys are known and which leaves are numbers (`wire`); the pump, which samples and obeys the verdict.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import TypeAlias

import msgspec
from msgspec import Struct, field, inspect

from truetape.core.feed.parse import TextLevel
from truetape.core.feed.venue import Dialect

SAMPLE_MAX = 2_048
"""Bytes of a frame kept for each new key."""
NEW_MAX = 100
"""New keys, and changed leaves, that are kept with a sample; beyond, they are only counted."""
PATHS_MAX = 1_000
"""Leaves learned for one channel."""
CHANNELS_MAX = 64
FRAME_MAX = 256 * 1024
"""Frames beyond are passed over: Coinbase's snapshot of 5 MB would cost 40 ms, and its changes show the same keys."""
DEEP_MAX = 16
NUMERIC = ("number", "number as text")
VOID = ("empty", "null")
MEMBERS_MAX = 8
"""Members of a list that are looked at: they are alike."""

_READ: msgspec.json.Decoder[object] = msgspec.json.Decoder(object)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?$")

Leaf: TypeAlias = "tuple[str, str, int, object]"
"""(path, last key, position in the innermost row or -1, value)."""


class Wire(Struct, frozen=True):
    """What a venue's wire structs declare.

    `keys` are all names; `numbers` those that hold numbers; `nullable` those that may be null; `rows` says by key at which places
    of a row numbers stand (a level is `[price, size]`; ``""`` is a frame that is itself a list); the keys of `maps` are data.
    """

    keys: frozenset[str]
    numbers: frozenset[str]
    nullable: frozenset[str]
    rows: Mapping[str, frozenset[int]]
    maps: frozenset[str]


class Seen(Struct):
    """One new key or changed leaf: how often, and the frame that showed it first."""

    count: int
    sample: str
    was: str = ""
    now: str = ""


class Memory(Struct):
    """All that was learned: what a checkpoint must keep."""

    learned: dict[str, dict[str, str]] = field(default_factory=dict)  # channel -> path -> JSON type
    unknown: dict[str, Seen] = field(default_factory=dict)
    changed: dict[str, Seen] = field(default_factory=dict)
    samples: int = 0
    skipped: int = 0
    more: int = 0


class Drift:
    """Compares sampled frames of one venue's connection with what came first. Nothing here raises, whatever the bytes."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.memory = Memory()

    def knows(self, channel: str) -> bool:
        """Whether a frame of this channel was learned already: if not, the next one should be shown."""
        return channel in self.memory.learned

    def seen(self, channel: str, data: bytes) -> str | None:
        """Look at one frame of a channel. Returns why its stream is in doubt: a price or size whose JSON type changed."""
        memory = self.memory
        trees = _trees(data) if len(data) <= FRAME_MAX else None
        first = channel not in memory.learned
        if trees is None or (first and len(memory.learned) >= CHANNELS_MAX):
            memory.skipped += 1
            return None
        memory.samples += 1
        learned = memory.learned.setdefault(channel, {})
        verdict: str | None = None
        inside = "\n"  # the new key whose own keys are new with it
        for path, key, position, value in (leaf for tree in trees for leaf in self._leaves(tree, "", "", -1, 0)):
            kind, known = _kind(value), learned.get(path)
            if known is None:
                if not first and position < 0 and key not in self.wire.keys and not path.startswith(inside):
                    inside = path
                    self._note(memory.unknown, f"{channel} {path}", data)
                if kind not in VOID and len(learned) < PATHS_MAX:
                    learned[path] = kind
            elif known in NUMERIC and kind != known and self._is_number(key, position):
                if kind == "empty" or (kind == "null" and key in self.wire.nullable):
                    continue
                self._note(memory.changed, f"{channel} {path}", data, known, kind)
                verdict = verdict or f"drift: {channel} {path} was {known}, is {kind}"
        return verdict

    def report(self) -> dict[str, object]:
        """What is in quarantine, for a replay's answer; empty where nothing is."""
        memory = self.memory
        kept: dict[str, object] = {}
        if memory.unknown:
            kept["unknown"] = {
                key: {"count": seen.count, "sample": seen.sample} for key, seen in memory.unknown.items()
            }
        if memory.changed:
            kept["changed"] = {key: msgspec.to_builtins(seen) for key, seen in memory.changed.items()}
        if memory.more:
            kept["more"] = memory.more
        return kept

    def _note(self, rows: dict[str, Seen], key: str, data: bytes, was: str = "", now: str = "") -> None:
        if (row := rows.get(key)) is not None:
            row.count += 1
        elif len(rows) < NEW_MAX:
            rows[key] = Seen(1, data[:SAMPLE_MAX].decode("utf-8", "replace"), was, now)
        else:
            self.memory.more += 1

    def _is_number(self, key: str, position: int) -> bool:
        """Whether the wire structs say that this leaf is a price, a size, or another number."""
        return position in self.wire.rows.get(key, ()) if position >= 0 else key in self.wire.numbers

    def _leaves(self, tree: object, path: str, key: str, position: int, depth: int) -> Iterator[Leaf]:
        """Every leaf, and every object or list where another type may stand. Lists of alike members share a path."""
        if depth >= DEEP_MAX or not isinstance(tree, dict | list):
            yield path, key, position, tree
        elif isinstance(tree, dict):
            if path:
                yield path, key, position, {}
            for name, value in tree.items() if key not in self.wire.maps else ():
                yield from self._leaves(value, f"{path}.{name}" if path else name, name, -1, depth + 1)
        elif all(isinstance(member, dict | list) for member in tree):
            yield path, key, -1, []
            for member in tree[:MEMBERS_MAX]:
                yield from self._leaves(member, f"{path}[]", key, -1, depth + 1)
        else:
            yield path, key, -1, []
            for at, member in enumerate(tree[:MEMBERS_MAX]):
                yield from self._leaves(member, f"{path}[{at}]", key, at, depth + 1)


def _kind(value: object) -> str:
    """The JSON type of a leaf, where text that is a number is told from other text."""
    if isinstance(value, str):
        return "empty" if not value else "number as text" if _NUMBER.match(value) else "text"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, int | float) else "list" if isinstance(value, list) else "object"


def _trees(data: bytes) -> list[object] | None:
    """The JSON documents of a frame; None where it holds none."""
    try:
        return [_READ.decode(data)] if b"\n" not in data else list(_READ.decode_lines(data))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


# What a venue file declares


def wire(dialect: type[Dialect]) -> Wire:
    """The names in the wire structs of a venue file: of every decoder that its module, or a module that it uses, keeps ready."""
    found = _Walk()
    places = [dialect.decode.__globals__]
    places += [vars(value) for value in places[0].values() if isinstance(value, ModuleType)]
    for place in places:
        for value in list(place.values()):
            if isinstance(value, msgspec.json.Decoder):
                found.walk(inspect.type_info(value.type), "")
    names = (frozenset(found.keys), frozenset(found.numbers), frozenset(found.nullable))
    return Wire(*names, {key: frozenset(at) for key, at in found.rows.items()}, frozenset(found.maps))


class _Walk:
    """Collects names while it goes through types."""

    def __init__(self) -> None:
        self.keys: dict[str, None] = {}
        self.numbers: dict[str, None] = {}
        self.nullable: dict[str, None] = {}
        self.maps: dict[str, None] = {}
        self.rows: dict[str, dict[int, None]] = {}
        self._done: dict[tuple[type, str], None] = {}

    def walk(self, kind: inspect.Type, key: str) -> None:
        """Note what this type says of what stands under `key`."""
        match kind:
            case inspect.StructType():
                self._struct(kind, key)
            case inspect.TupleType():
                self._row(list(kind.item_types), key)
            case inspect.ListType() | inspect.VarTupleType():
                self.walk(kind.item_type, key)
            case inspect.DictType():
                self.maps[key] = None
                self.walk(kind.value_type, key)
            case inspect.UnionType():
                for each in kind.types:
                    self.walk(each, key)
            case inspect.NoneType():
                self.nullable[key] = None
            case inspect.FloatType() | inspect.RawType():
                self.numbers[key] = None

    def _struct(self, kind: inspect.StructType, key: str) -> None:
        if (kind.cls, key) in self._done:
            return
        self._done[kind.cls, key] = None
        types = [each.type for each in kind.fields]
        if kind.cls.__struct_config__.array_like:
            self._row(types, key)
            if issubclass(kind.cls, TextLevel):
                self.rows[key] |= {0: None, 1: None}
            return
        for each in kind.fields:
            self.keys[each.encode_name] = None
            self.walk(each.type, each.encode_name)

    def _row(self, types: list[inspect.Type], key: str) -> None:
        at = self.rows.setdefault(key, {})
        for place, each in enumerate(types):
            if isinstance(each, inspect.FloatType):
                at[place] = None
            else:
                self.walk(each, key)

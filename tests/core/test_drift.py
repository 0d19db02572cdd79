"""Drift is quarantined: new keys are counted and sampled, a price that changed its type is told, and nothing else is."""

import json
import re
from pathlib import Path
from random import Random

import msgspec
import pytest
from msgspec import Struct

import mangle
import transcript
from conftest import ROOT
from truetape.app.dialects import Names, dialect, known
from truetape.core.feed.drift import (
    CHANNELS_MAX,
    FRAME_MAX,
    NEW_MAX,
    PATHS_MAX,
    SAMPLE_MAX,
    Drift,
    Memory,
    Wire,
    wire,
)
from truetape.core.feed.venue import Dialect
from truetape.model.event import Book, Trade

WIRE = Wire(
    keys=frozenset({"price", "size", "side", "bids", "map", "open"}),
    numbers=frozenset({"price", "size", "open"}),
    nullable=frozenset({"open"}),
    rows={"bids": frozenset({0, 1})},
    maps=frozenset({"map"}),
)


def show(drift: Drift, tree: object, channel: str = "trade") -> str | None:
    return drift.seen(channel, json.dumps(tree).encode())


def test_the_first_frame_teaches() -> None:
    drift = Drift(WIRE)
    assert not drift.knows("trade")
    assert show(drift, {"price": 1.5, "extra": 1}) is None
    assert drift.knows("trade")
    assert show(drift, {"price": 2, "extra": "now text"}) is None, "what is no price may change"
    assert drift.report() == {}


def test_a_new_key_is_counted_and_kept_once() -> None:
    drift = Drift(WIRE)
    show(drift, {"price": 1})
    for number in range(3):
        assert show(drift, {"price": 1, "fresh": {"deep": [number]}}) is None
    assert drift.report() == {
        "unknown": {"trade fresh": {"count": 1, "sample": '{"price": 1, "fresh": {"deep": [0]}}'}}
    }
    show(drift, {"price": 1, "size": 2, "side": "buy"})
    assert len(drift.memory.unknown) == 1, "declared keys are not new, first seen or not"


@pytest.mark.parametrize(
    ("was", "now", "told"),
    [
        (1.5, "1.5", "number as text"),
        ("1.5", 1.5, "number"),
        ("1.5", "NaN", "text"),
        ("1.5", "1,5", "text"),
        (1.5, None, "null"),
        (1.5, {"amount": 1}, "object"),
        (1.5, [1], "list"),
        (1.5, True, "bool"),
    ],
)
def test_a_price_that_changed_its_type_is_told(was: object, now: object, told: str) -> None:
    drift = Drift(WIRE)
    show(drift, {"data": [{"price": was}]})
    kind = "number as text" if isinstance(was, str) else "number"
    assert show(drift, {"data": [{"price": was}, {"price": now}]}) == f"drift: trade data[].price was {kind}, is {told}"
    assert show(drift, {"data": [{"price": was}]}) is None
    assert list(drift.report()["changed"]) == ["trade data[].price"]  # type: ignore[call-overload]


@pytest.mark.parametrize(("was", "now"), [(1, 1.5), ("1", "1e-8"), ("0.5", "-0.5"), ("1", ""), (1.5, 2)])
def test_what_is_still_a_number_is_no_drift(was: object, now: object) -> None:
    drift = Drift(WIRE)
    show(drift, {"price": was})
    assert show(drift, {"price": now}) is None


def test_what_may_be_null_may_be_null() -> None:
    drift = Drift(WIRE)
    show(drift, {"open": 1.5, "price": None})
    assert show(drift, {"open": None, "price": 1.5}) is None
    assert show(drift, {"open": None, "price": "1.5"}) is not None, "learned when it first held something"


def test_levels_are_watched_by_their_place() -> None:
    drift = Drift(WIRE)
    show(drift, {"bids": [["1", "2", "0", 7]]}, "book")
    assert show(drift, {"bids": []}, "book") is None
    assert show(drift, {"bids": [["1", "2", 0, "x"]]}, "book") is None, "what is beyond price and size may change"
    assert (
        show(drift, {"bids": [["1", "2"], ["1", 2]]}, "book") == "drift: book bids[][1] was number as text, is number"
    )


def test_channels_are_learned_apart() -> None:
    drift = Drift(WIRE)
    show(drift, {"price": 1.5}, "trade")
    assert show(drift, {"price": "1.5"}, "ticker") is None


def test_keys_that_are_data_are_not_new() -> None:
    drift = Drift(WIRE)
    show(drift, {"map": {"BTC": 1}})
    show(drift, {"map": {"ETH": 1}})
    assert drift.report() == {}


def test_everything_is_bounded() -> None:
    drift = Drift(WIRE)
    show(drift, {"price": 1})
    for number in range(NEW_MAX * 2):
        show(drift, {f"new{number}": "x" * 5000})
    assert len(drift.memory.unknown) == NEW_MAX
    assert drift.memory.more == NEW_MAX
    assert all(len(seen.sample) <= SAMPLE_MAX for seen in drift.memory.unknown.values())
    show(drift, {f"k{number}": number for number in range(PATHS_MAX * 3)}, "wide")
    assert len(drift.memory.learned["wide"]) <= PATHS_MAX
    for number in range(CHANNELS_MAX * 2):
        show(drift, {"price": 1}, f"channel {number}")
    assert len(drift.memory.learned) <= CHANNELS_MAX
    assert drift.seen("trade", b'{"a":"' + b"x" * FRAME_MAX + b'"}') is None
    assert drift.memory.skipped > CHANNELS_MAX
    report = drift.report()
    assert report["more"] == NEW_MAX


def test_what_was_learned_can_be_saved() -> None:
    drift = Drift(WIRE)
    show(drift, {"price": 1.5})
    show(drift, {"price": "1.5", "new": 1})
    other = Drift(WIRE)
    other.memory = msgspec.msgpack.decode(msgspec.msgpack.encode(drift.memory), type=Memory)
    assert other.report() == drift.report()
    assert show(other, {"price": "1.5"}) is not None


class Level(Struct, array_like=True):
    """A row."""

    price: float
    name: str


class Inner(Struct):
    """Lies in a frame, and in itself."""

    cost: float | None = None
    rows: list[Level] = []
    again: list["Inner"] = []


class Outer(Struct, rename={"renamed": "as"}):
    """A frame."""

    data: Inner | list[Inner] | None = None
    renamed: float = 0.0
    prices: dict[str, float] = {}
    pairs: list[tuple[str, float, float]] = []


OUTER = msgspec.json.Decoder(Outer)


def test_names_are_read_from_the_wire_structs() -> None:
    class Speaker:
        """Just enough of a dialect."""

        def decode(self, data: bytes, recv: int) -> object:
            return OUTER.decode(data)

    found = wire(Speaker)  # type: ignore[arg-type]
    assert {"data", "as", "prices", "pairs", "cost", "rows", "again"} <= found.keys
    assert {"cost", "as", "prices"} <= found.numbers
    assert "cost" in found.nullable and "as" not in found.nullable
    assert found.rows["rows"] == {0} and found.rows["pairs"] == {1, 2}
    assert "prices" in found.maps


# On the venues' own conversations


def frames(venue: str) -> list[bytes]:
    paths = sorted((ROOT / "tests" / "transcripts").glob(f"{venue}-*.txt"))
    return [step.text.encode() for path in paths for step in transcript.read(path).steps if step.kind == "<"]


def channel(kind: type[Dialect], data: bytes) -> str | None:
    """The channel of a frame of market data, as the pump would know it."""
    speaker = kind("x", Names(kind, kind.url), kind.url)
    try:
        said = speaker.decode(data, 1)
    except (msgspec.DecodeError, ValueError):
        return None
    return {Book: "book", Trade: "trade"}.get(type(said[0])) if said else None


NUMBER = re.compile(r'"(\d+(?:\.\d+)?)"|(?<=[\[:,])(\d+\.\d+)(?=[,\]}])')


@pytest.mark.parametrize("venue", known())
def test_each_venues_prices_are_watched(venue: str) -> None:
    """No verdict on sound frames; one when a price or size goes from text to number or back in a book and in a trade."""
    kind = dialect(venue)
    sound, told = set(), set()
    for data in frames(venue):
        name = channel(kind, data)
        if name is None or name in told:
            continue
        drift = Drift(wire(kind))
        if drift.seen(name, data) is not None:
            continue  # a transcript of a dialect whose papers disagree: numbers and texts in one frame
        assert drift.seen(name, data) is None
        sound.add(name)
        text = data.decode()
        for match in NUMBER.finditer(text):
            other = match[1] or f'"{match[2]}"'
            verdict = drift.seen(name, mangle.put(text, match.span(), other).encode())
            if verdict is not None:
                told.add(name)
    assert "book" in sound
    assert told == sound


@pytest.mark.parametrize("venue", known())
def test_no_damage_escapes(venue: str) -> None:
    random = Random(f"drift {venue}")
    drift = Drift(wire(dialect(venue)))
    for data in frames(venue):
        for _ in range(10):
            damaged = random.choice(mangle.EDITS)(data.decode(), random)
            drift.seen(random.choice("abc"), damaged.encode("utf-8", "surrogateescape"))
    json.dumps(drift.report(), allow_nan=False)


def test_the_wire_of_every_venue_knows_prices() -> None:
    for venue in known():
        found = wire(dialect(venue))
        assert found.numbers and found.keys, venue


def test_transcripts_are_found() -> None:
    assert all(frames(venue) for venue in known())
    assert isinstance(ROOT, Path)

"""Every venue keeps its transcripts, and no damage to them makes it lie, raise, or answer differently the second time.

Venue files and transcripts are found, not listed: a new venue is tested by being there, and fails as long as it has no transcript.
"""

import json
import math
import os
from pathlib import Path

import msgspec
import pytest

import test_captures
import transcript
from conftest import ROOT
from mangle import mangled
from transcript import Complaint, Player, Step, Transcript
from truetape.app import capture
from truetape.app.config import FeedConfig
from truetape.app.dialects import Names, dialect, known
from truetape.app.report import report
from truetape.app.symbols import resolve_feed
from truetape.core.feed.plan import connections
from truetape.core.feed.venue import Damaged, Dialect, Endpoint, Ignored, Want
from truetape.core.route import checkpoint
from truetape.core.route.pump import Pump
from truetape.model.event import Bar, Book, Market, Quote, Ticker, Trade

TRANSCRIPTS = sorted((ROOT / "tests" / "transcripts").glob("*.txt"))
SEEDS = 100 if os.environ.get("TRUETAPE_SOAK") else 8
"""Of each transcript: 8 make more than 300 in all."""

each_transcript = pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
each_venue = pytest.mark.parametrize("venue", known())


def test_every_venue_has_a_transcript_and_every_transcript_a_venue() -> None:
    assert {path.name.partition("-")[0] for path in TRANSCRIPTS} == set(known())


@each_transcript
def test_a_transcript_is_kept(path: Path) -> None:
    Player(transcript.read(path)).play()


# Damage


def must_be_sane(event: Market) -> None:
    """Whatever came in, what goes out are finite numbers that are not negative."""
    match event:
        case Trade():
            numbers = [event.price, event.size]
            assert event.price > 0 and event.side in ("buy", "sell", ""), event
        case Quote():
            numbers = [event.bid, event.bid_size, event.ask, event.ask_size]
        case Book():
            numbers = [number for level in event.bids + event.asks for number in level]
        case Bar():
            numbers = [event.open, event.high, event.low, event.close, event.volume, event.quote_volume]
        case Ticker():
            numbers = [
                n for n in (event.last, event.bid, event.ask, event.volume, event.mark, event.index) if n is not None
            ]
            assert event.funding is None or math.isfinite(event.funding), event
        case _:
            numbers = []
    assert all(math.isfinite(number) and number >= 0 for number in numbers), event


def played(source: Transcript) -> tuple[str, list[Market]]:
    player = Player(source, lenient=True)
    player.play()
    checkpoint.save(player.pump)
    answer = report(player.pump, records=0, frames=0, errors=0, levels=10)
    json.dumps(answer, allow_nan=False)
    return player.outcome()


@each_transcript
def test_a_mangled_transcript_is_survived(path: Path) -> None:
    """No exception, no LIVE book that is crossed or holds a number that is none, and the same answer twice."""
    whole = transcript.read(path)
    for number in range(SEEDS):
        seed = f"{path.stem}:{number}"
        damaged, done = mangled(whole, seed)
        try:
            first = played(damaged)
            for event in first[1]:
                must_be_sane(event)
            assert played(damaged) == first, "the second play gave another answer"
        except Exception as error:
            raise AssertionError(f"seed {seed}: {'; '.join(done)}: {type(error).__name__}: {error}") from error


def test_the_mangled_transcripts_are_enough() -> None:
    assert len(TRANSCRIPTS) * SEEDS >= 200


def members_of(tree: object, n: int) -> list[list[object]]:
    """Every list of n members that are objects or arrays, anywhere in a JSON tree."""
    found: list[list[object]] = []
    if isinstance(tree, list):
        if len(tree) == n and all(isinstance(member, dict | list) for member in tree):
            found.append(tree)
        for member in tree:
            found += members_of(member, n)
    elif isinstance(tree, dict):
        for member in tree.values():
            found += members_of(member, n)
    return found


def said(kind: type[Dialect], asked: list[Want], data: bytes) -> list[object]:
    """What a dialect makes of a frame, told without what it skipped."""
    speaker = kind("x", Names(kind, kind.url), kind.url)
    speaker.subscribe(asked)
    return [item for item in speaker.decode(data, 1) if not isinstance(item, Ignored)]


@each_transcript
def test_siblings_of_a_damaged_member_survive(path: Path) -> None:
    """Where a frame of n members says n things, n - 1 of them are still said when one member is spoiled, each in turn."""
    whole = transcript.read(path)
    kind = dialect(whole.venue)
    asked = [
        want for step in whole.steps if step.kind == "%" and (want := Player(whole).want(step, kind.url)) is not None
    ]
    for step in whole.steps:
        if step.kind != "<" or step.text[:1] not in "{[":
            continue
        try:
            tree = json.loads(step.text)
            before = said(kind, asked, json.dumps(tree).encode())
        except (ValueError, msgspec.DecodeError):
            continue
        if len(before) < 2 or not all(isinstance(item, Trade) for item in before):
            continue
        for at in range(len(before)):
            for wrong in (None, [], {}, "NaN", {"price": {}, "px": {}, "p": {}}):
                spoiled = json.loads(step.text)
                for members in members_of(spoiled, len(before)):
                    members[at] = wrong
                after = said(kind, asked, json.dumps(spoiled).encode())
                kept = [item for item in after if not isinstance(item, Damaged)]
                assert kept == before[:at] + before[at + 1 :], f"{step.where}: member {at} became {wrong}"


# The contract


@each_venue
def test_a_dialect_has_every_member_of_the_protocol(venue: str) -> None:
    kind = dialect(venue)
    members = [
        *Dialect.__annotations__,
        *(name for name, what in vars(Dialect).items() if callable(what) and name[0] != "_"),
    ]
    assert {"decode", "rule", "instruments_url"} <= set(members)
    assert [name for name in members if not hasattr(kind, name)] == []
    assert kind.name == venue
    assert kind.__doc__ and __import__(kind.__module__, fromlist=["x"]).__doc__
    assert set(kind.channels) <= {"book", "trade", "quote", "ticker", "bar"}
    assert kind.url.startswith("wss://")
    assert all(host and host[-1] != "/" for host in kind.hosts)


def wanted(kind: type[Dialect], symbols: list[str]) -> list[Want]:
    channels = [f"{name}.1m" if name == "bar" else name for name in kind.channels]
    return [Want(channel, kind.native(symbol), symbol) for symbol in symbols for channel in channels]


SYMBOLS = {"tickdb": ["BTC-USDT", "AAPL.US"]}
"""What a venue trades, where that is not the usual."""


@each_venue
def test_what_is_asked_for_can_be_ended(venue: str) -> None:
    kind = dialect(venue)
    speaker = kind("x", Names(kind, kind.url), kind.url)
    wants = wanted(kind, SYMBOLS.get(venue, ["BTC-USDT", "ETH-USDT"]))
    asked, ended = speaker.subscribe(wants), speaker.unsubscribe(wants)
    assert asked and ended
    for messages in (asked, ended):
        text = b"".join(messages).decode()
        assert all(json.loads(message) is not None for message in messages)
        assert all(want.raw.lower().partition(".")[0] in text.lower() for want in wants)
    assert speaker.unsubscribe([]) == [] or all(json.loads(message) for message in speaker.unsubscribe([]))


@each_venue
def test_every_want_has_an_address(venue: str) -> None:
    kind = dialect(venue)
    wants = wanted(kind, SYMBOLS.get(venue, ["BTC-USDT", "ETH-USDT", "BTC-USDT-PERP"]))
    for url in (kind.url, "ws://127.0.0.1:9/some/place"):
        found = kind.endpoints(wants, url, False)
        assert sorted(want for endpoint in found for want in endpoint.wants) == sorted(wants)
        assert all(isinstance(endpoint, Endpoint) and endpoint.url.startswith(url[:5]) for endpoint in found)
        for endpoint in found:
            again = kind.endpoints(endpoint.wants, url, False)
            assert [place.url for place in again] == [endpoint.url], "a part of a connection's wants has one address"


@pytest.mark.parametrize("name", test_captures.CAPTURES)
def test_names_go_both_ways_on_what_was_recorded(shared_data: Path, name: str) -> None:
    """Every symbol that a capture's frames name, and every row of the instrument lists that it holds."""
    path = test_captures.place(shared_data, name)
    venue = test_captures.VENUES[name.partition("-")[0]]
    kind = dialect(venue)
    observer = capture.Observer(venue)
    lists: dict[str, bytes] = {}
    for number, line in enumerate(capture.lines(path)):
        if (
            line.dir == "http"
            and line.data is not None
            and "instrument" in line.url + "instruments" * ("Assets" in line.url)
        ):
            lists[line.url] = line.data.encode()
        if number < 5000:
            observer.feed(line)
    seen = {(stream.raw, link.url) for link in observer.pump.links.values() for stream in link.streams.values()}
    assert seen
    for raw, url in seen:
        symbol = kind.canonical(raw, url)
        assert kind.native(symbol) == raw
        assert len(symbol.split("-")) in (2, 3)
    for body in lists.values():
        rows = kind.decode_instruments(body)
        assert rows
        assert [row.raw for row in rows if kind.native(row.symbol) != row.raw] == []


def test_two_markets_that_share_a_spelling_are_told_apart() -> None:
    """Bybit's `BTCUSDT` is a spot pair at one address and a perpetual at another: each gets its own name and connection."""
    kind = dialect("bybit")
    both = FeedConfig(venue="bybit", symbols=["BTC-USDT", "BTC-USDT-PERP", "ETHUSDT"], channels=["book"])
    feed = resolve_feed(both)
    found = {endpoint.url: [(want.symbol, want.raw) for want in endpoint.wants] for _, endpoint in connections(feed)}
    assert found == {
        f"{kind.url}/spot": [("BTC-USDT", "BTCUSDT"), ("ETH-USDT", "ETHUSDT")],
        f"{kind.url}/linear": [("BTC-USDT-PERP", "BTCUSDT")],
    }
    pump = Pump([feed])
    for source, symbol in zip(pump.links, ("BTC-USDT", "BTC-USDT-PERP"), strict=True):
        data = '{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":1,"data":[{"T":1,"S":"Buy","v":"1","p":"2","i":"3"}]}'
        said = pump.links[source].dialect.decode(data.encode(), 1)
        assert [(event.symbol, event.raw) for event in said if isinstance(event, Trade)] == [(symbol, "BTCUSDT")]


# The runner itself


def steps(*lines: str) -> Transcript:
    parsed = [Step(f"t:{at}", line[0], 1, line[1:].strip()) for at, line in enumerate(lines, 1)]
    return Transcript(Path("kraken-t.txt"), "kraken", parsed)


BEGIN = ["% trade BTC-USD", "? wss://ws.kraken.com/v2", "!", '> {"method":"subscribe"}']
TRADE = (
    '< {"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"buy","price":5,"qty":1,"trade_id":1,'
    '"timestamp":"2023-10-06T17:35:58Z"}]}'
)


def test_a_kept_transcript_passes() -> None:
    Player(steps(*BEGIN, TRADE, '= trade {"price":5}')).play()


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([*BEGIN, TRADE], "no line expects"),
        ([*BEGIN, TRADE, '= trade {"price":6}'], "t:6: expected .* at price expected 6, found 5"),
        ([*BEGIN, TRADE, "= gap {}"], "t:6: .* at kind expected 'gap', found 'trade'"),
        ([*BEGIN, '= trade {"price":5}'], "nothing emitted"),
        ([*BEGIN[:-1], '> {"method":"unsubscribe"}'], "at method expected 'unsubscribe', found 'subscribe'"),
        ([*BEGIN, "> ping"], "nothing sent"),
        (BEGIN[:-1], "sent what no line expects"),
        ([BEGIN[0], "? wss://elsewhere"], "expected to open or fetch wss://elsewhere"),
        ([*BEGIN, "x garbage"], "found nothing done"),
        ([*BEGIN, '= book {"symbol":"BTC-USD"}'], "no book of BTC-USD"),
        ([*BEGIN, '= status {"state":"STALE"}'], "expected .* found Status"),
    ],
)
def test_a_broken_promise_names_its_line(lines: list[str], complaint: str) -> None:
    with pytest.raises(Complaint, match=complaint):
        Player(steps(*lines)).play()


def test_a_line_that_is_no_step_is_named(tmp_path: Path) -> None:
    path = tmp_path / "kraken-x.txt"
    path.write_text("# fine\n\nwhat is this\n")
    with pytest.raises(Complaint, match=r"kraken-x\.txt:3: expected a line that begins with"):
        transcript.read(path)

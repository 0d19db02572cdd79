"""What a venue may say instead of data, in each shape in which it may say it, and the one remedy that follows."""

from typing import Any

import msgspec
import pytest

from truetape.app.dialects import Names, dialect, known
from truetape.core.feed import refusal
from truetape.core.feed.plan import Feed
from truetape.core.feed.session import Timing
from truetape.core.feed.venue import Want
from truetape.core.route.orders import Order
from truetape.core.route.pump import Pump
from truetape.model.effect import Close, Effect, Open, Send
from truetape.model.reason import REASONS, remedy
from truetape.venues._tickdb import REASONS as TICKDB

S = 1_000_000_000
T0 = 1_780_000_000 * S
CALM = Timing(ping_every_s=0, app_ping_every_s=0, dead_after_s=0, ack_within_s=0, jitter=0)
WANTS = tuple(Want("book", raw, raw) for raw in ("AAPL.US", "MSFT.US", "NVDA.US"))


class Room:
    """Feeds of TickDB, three connections of one symbol each, driven by their own deadlines; `did` holds (s since T0, effect)."""

    def __init__(self, *feeds: str, credential: str = "env:KEY", venue: str = "tickdb", how: Timing = CALM) -> None:
        kind = dialect(venue)
        made = [
            Feed(
                name, name, venue, kind, kind.url, "http://rest", WANTS, Names(kind, kind.url), how, False, 1,
                credential=credential,
            )
            for name in feeds or ("f",)
        ]  # fmt: skip
        self.now, self.did = T0, list[tuple[float, Effect]]()
        self.pump = Pump(made, now=T0)
        self.take(self.pump.start(T0))

    def take(self, effects: list[Effect]) -> None:
        self.did += [((self.now - T0) / S, effect) for effect in effects]

    def open(self) -> "Room":
        for source in self.pump.links:
            self.take(self.pump.opened(source, self.now))
        self.did.clear()
        return self

    def say(self, tree: Any, source: str = "f-1") -> None:
        self.take(self.pump.frame(source, msgspec.json.encode(tree), self.now))

    def lost(self, code: int, said: str = "", source: str = "f-1", retry_after_s: float = -1.0) -> None:
        reason = f"closed_by_venue: {code} {said}" if code >= 1000 else f"refused: HTTP {code}"
        self.take(self.pump.lost(source, reason, self.now, code, retry_after_s, said))

    def until(self, seconds: float) -> None:
        end = T0 + round(seconds * S)
        while (due := self.pump.deadline) is not None and due <= end:
            self.now = max(self.now, due)
            self.take(self.pump.tick(self.now))
        self.now = end

    def states(self) -> list[str]:
        return [link.session.state for link in self.pump.links.values() if link.session is not None]

    def dialed(self) -> list[tuple[float, str]]:
        return [(round(at, 3), effect.source) for at, effect in self.did if isinstance(effect, Open)]


def said(shape: str, code: int, room: Room, text: str = "no") -> None:
    """The vendor's code as a frame, as a close code, before the text of a close frame, or in the body of an HTTP answer."""
    body = {"cmd": "subscribe", "code": code, "message": text, "data": {"symbols": ["AAPL.US"], "channel": "depth"}}
    if shape == "frame":
        room.say(body)
    elif shape == "close":
        room.lost(code)
    elif shape == "text":
        room.lost(1008, f"{code} {text}")
    else:
        room.lost(400, msgspec.json.encode(body).decode())


@pytest.mark.parametrize(
    ("venue", "shape"),
    [("tickdb", "frame")]
    + [
        (name, shape) for name in ("tickdb", "tickdb_stream", "tickdb_market_ws") for shape in ("close", "text", "body")
    ],
)
@pytest.mark.parametrize("code", sorted(TICKDB))
def test_every_code_of_the_vendor_has_one_remedy_in_every_shape(code: int, shape: str, venue: str) -> None:
    """The founding documents' frames are walked in tests/test_tickdb.py."""
    room = Room(venue=venue).open()
    said(shape, code, room)
    cure, link = remedy(TICKDB[code]), room.pump.links["f-1"]
    assert link.session is not None
    if shape == "close" and code < 3000:
        assert room.states() == ["WAITING", "OPEN", "OPEN"], "1001 is the protocol's own `going away`, and no wrong key"
        return
    if cure == "stop":
        assert room.states() == ["STOPPED"] * 3
        assert TICKDB[code] in link.session.reason
        room.until(3600)
        assert room.dialed() == [], "no storm: nobody dials until a person acts"
    elif shape == "frame":
        assert room.states() == ["OPEN"] * 3
        dropped = link.streams["book", "AAPL.US"].state == "CLOSED"
        assert dropped == (cure == "drop"), "one symbol is dropped, the rest stays"
        assert (link.session.held > room.now) == (cure == "wait")
    else:
        assert room.states()[0] == "WAITING"
        wait = ((link.session.deadline or 0) - room.now) / S
        assert wait >= REASONS[TICKDB[code]].wait_s
        assert TICKDB[code] in link.session.reason


def test_nothing_is_sent_or_dialed_before_a_rate_limit_is_over_on_any_connection_of_the_credential() -> None:
    room = Room("f", "g", how=Timing(ping_every_s=0, dead_after_s=10, ack_within_s=5, jitter=0.3)).open()
    room.say({"cmd": "subscribe", "code": 3001, "message": "slow down", "data": {"retry_after": 7}})
    room.lost(1006, source="f-2")
    room.lost(1006, source="g-3")
    more = msgspec.json.encode(Order("want", "g-1", [Want("trade", "TSLA.US", "TSLA.US")]))
    room.take(room.pump.command(more, room.now))
    room.until(6.999)
    assert [at for at, effect in room.did if isinstance(effect, Send | Open | Close)] == []
    room.until(7.4)
    assert {source for _, source in room.dialed()} == {"f-2", "g-3"}
    sent = [(at, e.source, e.data) for at, e in room.did if isinstance(e, Send)]
    assert any(b"TSLA.US" in data for _, _, data in sent) and min(at for at, _, _ in sent) >= 7.0


def test_retry_after_of_a_handshake_is_obeyed_by_all_connections_of_the_credential() -> None:
    room = Room(how=Timing(ping_every_s=0, app_ping_every_s=0, dead_after_s=0, jitter=0.3))
    room.lost(429, source="f-1", retry_after_s=7.0)
    room.lost(0, source="f-2")
    assert [link.session.held for link in room.pump.links.values() if link.session][1:] == [T0 + 7 * S] * 2
    room.did.clear()
    room.until(6.999)
    assert room.dialed() == []
    room.until(8)
    assert {source for _, source in room.dialed()} == {"f-1", "f-2"}


def test_a_refused_credential_comes_back_by_an_order_with_all_that_it_carried() -> None:
    room = Room("f", "g").open()
    room.lost(401, source="g-2")
    assert room.states() == ["STOPPED"] * 6
    streams = [stream for link in room.pump.links.values() for stream in link.streams.values()]
    assert {stream.state for stream in streams} == {"CLOSED"}
    assert all("bad_key" in stream.reason for stream in streams), "and each says why"
    closes = [effect.source for _, effect in room.did if isinstance(effect, Close)]
    for source in closes:
        room.take(room.pump.lost(source, "closed", room.now, 1000))
    assert room.states() == ["STOPPED"] * 6
    room.did.clear()
    for source in room.pump.links:
        room.take(room.pump.command(msgspec.json.encode(Order("retry", source)), room.now))
    assert [source for _, source in room.dialed()] == list(room.pump.links)
    for source in room.pump.links:
        room.take(room.pump.opened(source, room.now))
    room.until(1)
    asked = [effect.source for _, effect in room.did if isinstance(effect, Send)]
    assert sorted(asked) == sorted(room.pump.links) and {stream.state for stream in streams} == {"SYNCING"}
    room.take(room.pump.command(msgspec.json.encode(Order("retry", "f-1")), room.now))
    assert room.states() == ["OPEN"] * 6, "what was not stopped is left alone"


def test_feeds_with_other_credentials_are_left_alone() -> None:
    kind = dialect("tickdb")
    feeds = [
        Feed(
            name, name, "tickdb", kind, kind.url, "", WANTS[:1], Names(kind, kind.url), CALM,
            credential=f"env:{name.upper()}",
        )
        for name in ("f", "g")
    ]  # fmt: skip
    pump = Pump(feeds, now=T0)
    pump.start(T0)
    pump.opened("g-1", T0)
    pump.lost("f-1", "refused: HTTP 401", T0, 401)
    assert [link.session.state for link in pump.links.values() if link.session] == ["STOPPED", "OPEN"]


@pytest.mark.parametrize(
    ("code", "text", "reason"),
    [
        (401, "", "bad_key"), (407, "", "proxy_refused"), (418, "", "rate_limit"), (429, "", "rate_limit"), (451, "", "region"),
        (503, "", "venue_error"), (1008, "Too many requests", "rate_limit"), (1013, "Rate limit exceeded", "rate_limit"),
        (1000, "", None), (1001, "", None), (1006, "", None), (404, "", None), (502, "", None), (0, "", None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("venue", known())
def test_what_means_the_same_everywhere_is_read_so_for_every_venue(
    venue: str, code: int, text: str, reason: str | None
) -> None:
    kind = dialect(venue)
    answer = refusal.read(kind(venue, Names(kind, kind.url), kind.url), code, text)
    assert (answer.reason if answer is not None else None) == reason
    assert reason is None or reason in REASONS


def test_a_ban_of_the_address_holds_the_fetches_of_every_connection() -> None:
    kind = dialect("binance")
    wants = tuple(Want("book", raw, raw, 50) for raw in ("BTCUSDT", "ETHUSDT"))
    feed = Feed("b", "b", "binance", kind, kind.url, "http://rest", wants, Names(kind, kind.url), CALM, False, 1)
    pump = Pump([feed], now=T0)
    pump.start(T0)
    for source in pump.links:
        pump.opened(source, T0)
    assert list(pump.links) == ["b-1", "b-2"]
    pump.links["b-1"].desk.ask("BTCUSDT", T0)
    pump.tick(T0)
    pump.fetched("b-1", "depth:BTCUSDT", 418, b"{}", T0 + S, retry_after_s=60.0)
    pump.links["b-2"].desk.ask("ETHUSDT", T0 + 2 * S)
    assert pump.links["b-2"].desk.due(T0 + 60 * S) == []
    assert pump.links["b-2"].desk.due(T0 + 61 * S) == ["ETHUSDT"]

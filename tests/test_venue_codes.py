"""What each venue's refusals mean, and that one refused symbol takes no other along."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from truetape.app.dialects import Names, dialect, known
from truetape.core.feed import refusal
from truetape.core.feed.plan import Feed
from truetape.core.feed.session import Timing
from truetape.core.feed.venue import Rejected, Want
from truetape.core.route.pump import Pump
from truetape.model.effect import Send
from truetape.model.reason import REASONS

T0 = 1_700_000_000_000_000_000
CALM = Timing(ping_every_s=0, app_ping_every_s=0, dead_after_s=0, ack_within_s=0, jitter=0, messages_per_s=0)
RAW = {
    "binance": "BTCUSDT ETHUSDT NOPEUSDT", "binance_usdm": "BTCUSDT ETHUSDT NOPEUSDT", "kraken": "BTC/USD ETH/USD NOPE/USD",
    "kraken_v1": "ADA/USD ETH/USD NOPE/USD", "coinbase": "BTC-USD ETH-USD NOPE-USD", "coinbase_exchange": "BTC-USD ETH-USD NOPE-USD",
    "okx": "BTC-USDT ETH-USDT NOPE-USDT", "bybit": "BTCUSDT ETHUSDT NOPEUSDT",
}  # fmt: skip
SAID: dict[str, Any] = {
    "binance": lambda code, text: {"error": {"code": code, "msg": text}, "id": 1},
    "binance_usdm": lambda code, text: {"error": {"code": code, "msg": text}, "id": 1},
    "kraken": lambda _, text: {"method": "subscribe", "success": False, "error": text, "req_id": 1},
    "kraken_v1": lambda _, text: {"event": "subscriptionStatus", "status": "error", "errorMessage": text, "reqid": 1},
    "coinbase": lambda _, text: {"type": "error", "message": text},
    "coinbase_exchange": lambda _, text: {"type": "error", "message": "Failed to subscribe", "reason": text},
    "okx": lambda code, text: {"event": "error", "code": str(code), "msg": text, "id": "1"},
    "bybit": lambda _, text: {"op": "subscribe", "success": False, "ret_msg": text, "req_id": "1"},
}
FRAMES: list[tuple[str, int, str, str]] = [
    ("binance", 0, "Unknown property", "bad_request"), ("binance", 1, "Invalid value type", "bad_request"),
    ("binance", 2, "Invalid request", "bad_request"), ("binance", 3, "Invalid JSON", "bad_request"),
    ("binance", -1003, "Way too much", "rate_limit"), ("binance", -1121, "Invalid symbol.", "unknown_symbol"),
    ("binance", -1000, "UNKNOWN", "venue_error"), ("binance_usdm", -1121, "Invalid symbol.", "unknown_symbol"),
    ("kraken", 0, "Currency pair not supported NOPE/USD", "unknown_symbol"), ("kraken", 0, "Exceeded msg rate", "rate_limit"),
    ("kraken", 0, "Subscription depth not supported", "bad_request"),
    ("kraken", 0, "Currency pair not in ISO 4217-A3 format", "unknown_symbol"),
    ("kraken", 0, "EGeneral:Too many requests", "rate_limit"), ("kraken", 0, "EAPI:Rate limit exceeded", "rate_limit"),
    ("kraken", 0, "EGeneral:Temporary lockout", "rate_limit"), ("kraken", 0, "EAPI:Invalid key", "bad_key"),
    ("kraken", 0, "EService:Unavailable", "venue_error"), ("kraken", 0, "EAccount:Invalid permissions", "unavailable"),
    ("kraken_v1", 0, "Currency pair not supported", "unknown_symbol"), ("kraken_v1", 0, "EService:Busy", "venue_error"),
    ("coinbase", 0, "authentication failure", "bad_key"), ("coinbase", 0, "rate limit exceeded", "rate_limit"),
    ("coinbase", 0, "failed to subscribe", "bad_request"),
    ("coinbase_exchange", 0, "NOPE-USD is not a valid product", "unknown_symbol"),
    ("coinbase_exchange", 0, "user channel requires authentication", "bad_key"), ("coinbase_exchange", 0, "rate limit exceeded", "rate_limit"),
    ("okx", 60012, "Illegal request", "bad_request"), ("okx", 60013, "Invalid args", "bad_request"), ("okx", 60014, "too fast", "rate_limit"),
    ("okx", 60018, "Wrong URL or channel", "unknown_symbol"), ("okx", 60008, "not here", "unavailable"),
    ("okx", 60009, "Login failed", "bad_key"),
    ("okx", 60011, "Please log in", "bad_key"), ("okx", 63999, "Internal error", "venue_error"), ("okx", 64003, "fee tier", "unavailable"),
    ("okx", 50011, "Rate limit", "rate_limit"), ("okx", 50001, "Service unavailable", "venue_error"), ("okx", 60005, "idle", "venue_error"),
    ("bybit", 0, "Invalid symbol :[publicTrade.NOPEUSDT]", "unknown_symbol"), ("bybit", 0, "Too many visits!", "rate_limit"),
    ("bybit", 0, "error:request args invalid", "bad_request"),
]  # fmt: skip
ENDS: list[tuple[str, int, str, str | None, float]] = [
    ("binance", 418, "", "rate_limit", -1), ("binance", 429, "", "rate_limit", -1), ("binance", 403, "WAF", None, -1),
    ("okx", 4001, "Login failed", "bad_key", -1), ("okx", 4004, "No data received in 30s", None, -1), ("okx", 4006, "", None, -1),
    ("okx", 4005, "", "venue_error", -1), ("okx", 4008, "", "rate_limit", -1),
    ("bybit", 403, "access too frequent", "rate_limit", 600), ("bybit", 403, "country", None, -1),
    ("bybit", 200, '{"retCode":10006,"retMsg":"Too many visits!"}', "rate_limit", -1),
    ("bybit", 200, '{"retCode":10016}', "venue_error", -1), ("bybit", 200, '{"retCode":10001}', "bad_request", -1),
    ("bybit", 200, '{"retCode":10429}', "rate_limit", -1),
]  # fmt: skip


class Room:
    """Three symbols of one venue on one connection that stands."""

    def __init__(self, venue: str) -> None:
        kind = dialect(venue)
        url = f"{kind.url}/spot" if venue == "bybit" else kind.url
        names = Names(kind, url)
        wants = tuple(Want("trade", raw, kind.canonical(raw, url)) for raw in RAW[venue].split())
        self.pump = Pump([Feed("f", venue, venue, kind, url, "http://rest", wants, names, CALM)], now=T0)
        self.pump.start(T0)
        (self.source,) = self.pump.links
        self.pump.opened(self.source, T0)
        self.link = self.pump.links[self.source]
        assert self.link.session is not None
        self.session = self.link.session

    def say(self, tree: Any) -> list[bytes]:
        effects = self.pump.frame(self.source, msgspec.json.encode(tree), T0)
        return [effect.data for effect in effects if isinstance(effect, Send)]

    def wanted(self) -> list[str]:
        return [want.raw for want in self.session.wants]

    def states(self) -> list[str]:
        return [stream.state for stream in self.link.streams.values()]


@pytest.mark.parametrize(("venue", "code", "text", "reason"), FRAMES)
def test_an_error_of_a_venue_has_one_reason(venue: str, code: int, text: str, reason: str) -> None:
    room = Room(venue)
    said = [
        item for item in room.link.decode(msgspec.json.encode(SAID[venue](code, text)), T0) if type(item) is Rejected
    ]
    assert [item.reason for item in said] == [reason] and reason in REASONS
    cure = REASONS[reason].remedy
    if venue == "kraken" and "lockout" in text:
        assert said[0].retry_after_s == 900
    room = Room(venue)
    room.say(SAID[venue](code, text))
    assert (room.session.state == "STOPPED") == (cure == "stop")
    assert (room.session.held > T0) == (cure == "wait")
    if cure != "stop":
        assert set(RAW[venue].split()[:2]) <= set(room.wanted()), "what was not named is still wanted"
        assert room.states()[:2] == ["SYNCING"] * 2


@pytest.mark.parametrize(("venue", "code", "said", "reason", "wait_s"), ENDS)
def test_an_end_of_a_connection_has_one_reason(
    venue: str, code: int, said: str, reason: str | None, wait_s: float
) -> None:
    kind = dialect(venue)
    answer = refusal.read(kind(venue, Names(kind, kind.url), kind.url), code, said)
    assert (answer.reason if answer is not None else None) == reason
    assert answer is None or answer.retry_after_s == wait_s


NAMED: dict[str, Any] = {
    "kraken": {**SAID["kraken"](0, "Currency pair not supported NOPE/USD"), "symbol": "NOPE/USD"},
    "kraken_v1": {**SAID["kraken_v1"](0, "Currency pair not supported NOPE/USD"), "pair": "NOPE/USD", "subscription": {"name": "trade"}},
    "coinbase_exchange": SAID["coinbase_exchange"](0, "NOPE-USD is not a valid product"),
    "okx": SAID["okx"](60018, "Wrong URL or channel:trades,instId:NOPE-USDT doesn't exist"),
    "bybit": SAID["bybit"](0, "Invalid symbol :[publicTrade.NOPEUSDT]"),
}  # fmt: skip


@pytest.mark.parametrize("venue", sorted(NAMED))
def test_an_error_that_names_a_symbol_drops_only_that(venue: str) -> None:
    room = Room(venue)
    room.say(NAMED[venue])
    assert room.wanted() == RAW[venue].split()[:2]
    assert room.states() == ["SYNCING", "SYNCING", "CLOSED"]


def test_what_is_subscribed_already_stays_subscribed() -> None:
    room = Room("kraken")
    room.say({**SAID["kraken"](0, "Already subscribed"), "symbol": "BTC/USD"})
    assert room.wanted() == RAW["kraken"].split()
    assert room.states() == ["SYNCING"] * 3


@pytest.mark.parametrize("venue", ["binance", "binance_usdm", "kraken", "kraken_v1", "okx", "bybit"])
def test_a_refused_request_of_several_is_asked_for_one_by_one(venue: str) -> None:
    room = Room(venue)
    sent = room.say(SAID[venue](2 if venue.startswith("binance") else 60013, "Invalid request"))
    assert len(sent) == 3 and room.wanted() == RAW[venue].split(), "nobody knows yet which was meant"
    for raw, data in zip(RAW[venue].split(), sent, strict=True):
        assert raw.lower().encode() in data.lower()
    asked = msgspec.json.decode(sent[2])
    number = next(asked[key] for key in ("id", "req_id", "reqid") if key in asked)
    tree = SAID[venue](2 if venue.startswith("binance") else 60013, "Invalid request")
    again = room.say({key: number if key in ("id", "req_id", "reqid") else value for key, value in tree.items()})
    assert again == [] and room.wanted() == RAW[venue].split()[:2]
    assert room.states() == ["SYNCING", "SYNCING", "CLOSED"]


def test_every_venue_is_walked_here_or_with_its_vendor_s_table() -> None:
    assert {name for name in known() if not name.startswith("tickdb")} == set(RAW) == {venue for venue, *_ in FRAMES}

"""The simulated TickDB says what the vendor's papers say, as far as they agree with themselves."""

import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from conftest import ROOT
from truetape.app.dialects import dialect
from truetape.app.sim import counterpart
from truetape.core.feed.counterpart import Dismissed, Subscribed, Unsubscribed
from truetape.core.sim.listing import listings
from truetape.core.sim.market import Market

T0 = 1_780_000_000_000_000_000
MS = 1_000_000
KIND = counterpart("tickdb")


def market(symbols: int = 4) -> Market:
    return Market(listings(symbols, 3, KIND.size_decimals, shares=True), dialect("tickdb").native, 3, T0)


def asked(cmd: str, channel: str, *symbols: str) -> bytes:
    return json.dumps({"cmd": cmd, "data": {"channel": channel, "symbols": symbols}}).encode()


@pytest.fixture(scope="module")
def papers() -> dict[str, Any]:
    """The schemas of the vendor's AsyncAPI document, by message."""
    path = (ROOT / os.environ.get("TRUETAPE_SHARED", "../shared") / "venues/tickdb/asyncapi.json").resolve()
    if not path.is_file():
        pytest.skip(f"no vendor document at {path}; set TRUETAPE_SHARED")
    channels = json.loads(Path(path).read_text())["channels"]
    return {name: message["payload"] for channel in channels.values() for name, message in channel["messages"].items()}


def loosened(schema: Any) -> Any:
    """The document forbids fields that the prose documents (its defect 1)."""
    if isinstance(schema, dict):
        return {key: loosened(value) for key, value in schema.items() if key != "additionalProperties"}
    return [loosened(value) for value in schema] if isinstance(schema, list) else schema


def pushed(channel: str, steps: int = 400) -> list[dict[str, Any]]:
    rows = market()
    venue = KIND(rows.listed)
    venue.received(asked("subscribe", channel, *rows.listed), T0)
    frames = []
    for i in range(steps):
        frames += [json.loads(frame) for _, frame in venue.encode(rows.step(T0 + i * MS, 3), T0 + i * MS)]
    return frames


def test_depth_is_what_the_document_says(papers: dict[str, Any]) -> None:
    frames = pushed("depth")
    assert len(frames) == 400
    for frame in frames:
        jsonschema.validate(frame, papers["depthData"])  # strictly: nothing to loosen here
        bids, asks = ([float(price) for price, _ in frame["data"][side]] for side in ("bids", "asks"))
        assert bids == sorted(bids, reverse=True) and asks == sorted(asks) and bids[0] < asks[0]


def test_tickers_are_what_document_and_prose_say(papers: dict[str, Any]) -> None:
    frames = pushed("ticker")
    assert {frame["data"]["symbol"] for frame in frames} == {"BTCUSDT", "AAPL.US", "ETHUSDT", "NVDA.US"}
    for frame in frames:
        jsonschema.validate(frame, loosened(papers["tickerData"]))
        assert {"volume_24h", "high_24h", "low_24h"} <= frame["data"].keys()
        assert ("price_change_24h" in frame["data"]) is ("." not in frame["data"]["symbol"])


def test_each_trade_of_the_array_is_what_the_document_says_of_one(papers: dict[str, Any]) -> None:
    frames = pushed("trade")
    seen: dict[str, list[int]] = {}
    for frame in frames:
        for trade in frame["data"]["trades"]:
            alone = {"cmd": "trade", "data": {"symbol": frame["data"]["symbol"], **trade}}
            jsonschema.validate(alone, loosened(papers["tradeData"]))
            seen.setdefault(frame["data"]["symbol"], []).append(int(trade["id"]))
    assert sum(map(len, seen.values())) > 50
    assert all(ids == list(range(1, len(ids) + 1)) for ids in seen.values())


def test_our_requests_and_its_pong_are_what_the_document_says(papers: dict[str, Any]) -> None:
    venue = KIND(market().listed)
    ping = dialect("tickdb")("tickdb", {}, "").ping()
    assert ping is not None
    jsonschema.validate(json.loads(ping), papers["pingRequest"])
    (pong,) = venue.received(ping, T0)
    assert isinstance(pong, bytes)
    jsonschema.validate(json.loads(pong), papers["pongResponse"])
    assert json.loads(pong)["data"]["timestamp"] == T0 // MS


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"{", 4002), (b"\xff\xfe", 4002), (b"[]", 4002), (b'{"cmd":"dance"}', 4001), (b'{"cmd":"subscribe"}', 2001),
        (asked("subscribe", "fish", "BTCUSDT"), 2001), (asked("subscribe", "depth", "BTCUSDT", "NOPE"), 2002),
        (asked("subscribe", "depth"), 2001), (b'{"cmd":"subscribe","data":{"channel":"depth","symbols":"BTCUSDT"}}', 2001),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_with_its_code(sent: bytes, code: int) -> None:
    venue = KIND(market().listed)
    (answer,) = venue.received(sent, T0)
    assert isinstance(answer, bytes)
    assert json.loads(answer)["code"] == code
    assert venue.received(asked("unsubscribe", "depth", "BTCUSDT"), T0)[1:] == [], "nothing was subscribed"


def test_keys_are_asked_for_where_one_is_set() -> None:
    listed = market().listed
    assert KIND(listed).opened("/v1/realtime", T0) == []
    assert KIND(listed, "secret").opened("/v1/realtime?api_key=secret", T0) == []
    for target, code in (("/v1/realtime", 1002), ("/v1/realtime?api_key=no", 1001)):
        answer, end = KIND(listed, "secret").opened(target, T0)
        assert isinstance(answer, bytes) and json.loads(answer)["code"] == code
        assert isinstance(end, Dismissed) and end.code == 1008


def test_subscriptions_end_with_the_last_channel() -> None:
    venue = KIND(market().listed)
    assert Subscribed("BTCUSDT") in venue.received(asked("subscribe", "depth", "BTCUSDT"), T0)
    venue.received(asked("subscribe", "trade", "BTCUSDT"), T0)
    assert Unsubscribed("BTCUSDT") not in venue.received(asked("unsubscribe", "depth", "BTCUSDT"), T0)
    assert Unsubscribed("BTCUSDT") in venue.received(asked("unsubscribe", "trade", "BTCUSDT"), T0)


def test_the_list_of_symbols_pages_and_is_read_by_our_dialect() -> None:
    listed = market(30).listed
    kind = dialect("tickdb")
    url = kind.instruments_url("")
    assert url is not None
    path, _, query = url.partition("?")
    found = kind.decode_instruments(KIND.http(listed, path, dict([query.split("=")]), T0).body)
    assert [row.raw for row in found] == list(listed)
    assert [row.symbol for row in found] == [row.instrument.symbol for row in listed.values()]
    page = json.loads(KIND.http(listed, path, {"market": "US", "limit": "2", "offset": "1"}, T0).body)["data"]
    assert [row["symbol"] for row in page["products"]] == ["NVDA.US", "TSLA.US"]
    assert json.loads(KIND.http(listed, path, {"limit": "0"}, T0).body)["code"] == 2004
    book = json.loads(KIND.http(listed, "/v1/market/depth", {"symbol": "AAPL.US", "limit": "50"}, T0).body)
    assert len(book["data"]["bids"]) == 50
    assert KIND.http(listed, "/v1/market/depth", {"symbol": "NOPE"}, T0).status == 404

"""TickDB's documented protocol against the vendor's own AsyncAPI document, and what that document leaves out.

The document is part of TickDB/tickdb-api-docs cd837a2 (MIT-like licence), kept in the shared folder. Its known defects are minded:
it has send and receive the wrong way round, and its trade is flat where the prose has an array (both are tested).
"""

import json
import os
from random import Random
from typing import Any

import jsonschema
import msgspec
import pytest

from conftest import ROOT
from truetape.core.feed.venue import Accepted, Alive, Control, Damaged, Ignored, Rejected, Want
from truetape.model.event import Book, Market, Quote, Ticker, Trade
from truetape.model.reason import REASONS as REMEDIES
from truetape.venues.tickdb import PLANS, REASONS, Dialect

RECV = 1_900_000_000_000_000_000
EXAMPLES = 200


class Names(dict[str, str]):
    """Canonical symbols by the venue file's rule, as the app's table of names gives them."""

    def __missing__(self, raw: str) -> str:
        return Dialect.canonical(raw, Dialect.url)


def speaking(*wants: tuple[str, str]) -> Dialect:
    """A dialect that has asked for these (channel, raw)."""
    dialect = Dialect("tickdb", Names(), Dialect.url)
    dialect.subscribe([Want(channel, raw, Dialect.canonical(raw, "")) for channel, raw in wants])
    return dialect


def said(dialect: Dialect, *documents: object) -> list[Market | Control]:
    """What the dialect makes of one message with these documents, each on a line."""
    return list(dialect.decode("\n".join(json.dumps(each) for each in documents).encode(), RECV))


def asked(frames: list[bytes]) -> list[Any]:
    return [json.loads(frame) for frame in frames]


# The vendor's document


@pytest.fixture(scope="module")
def messages() -> dict[str, Any]:
    """The schemas of the vendor's document by message name: of data, of a request, of ping and pong."""
    path = (ROOT / os.environ.get("TRUETAPE_SHARED", "../shared") / "venues/tickdb/asyncapi.json").resolve()
    if not path.is_file():
        pytest.skip(f"no AsyncAPI document at {path}; set TRUETAPE_SHARED")
    channels = json.loads(path.read_text())["channels"]
    return {
        f"{channel}.{name}": message["payload"]
        for channel, inside in channels.items()
        for name, message in inside["messages"].items()
    }


def example(schema: dict[str, Any], random: Random, name: str = "") -> Any:
    """A value that the schema allows; text that stands for a number is one, and what may be left out is left out at times."""
    if "const" in schema or "enum" in schema:
        return schema.get("const") or random.choice(schema["enum"])
    kind = schema["type"] if isinstance(schema["type"], str) else random.choice(schema["type"])
    if kind == "object":
        names = [each for each in schema["properties"] if each in schema["required"] or random.random() < 0.5]
        return {each: example(schema["properties"][each], random, each) for each in names}
    if kind == "array":
        count = random.randint(schema.get("minItems", 0), schema.get("maxItems", 12))
        return [example(schema["items"], random, name) for _ in range(count)]
    if kind == "integer":
        return random.randint(1, 2_000_000_000_000)
    if kind == "null":
        return None
    return (
        random.choice(["AAPL.US", "700.HK", "BTCUSDT", "BU2609"])
        if name == "symbol"
        else f"{random.random() * 99 + 1:.4f}"
    )


def generated(messages: dict[str, Any], name: str) -> list[Any]:
    found = [example(messages[name], Random(seed)) for seed in range(EXAMPLES)]
    for each in found:
        jsonschema.validate(each, messages[name])
    return found


def test_every_ticker_of_the_document_is_a_ticker(messages: dict[str, Any]) -> None:
    for message in generated(messages, "ticker.tickerData"):
        data = message["data"]
        (event,) = said(speaking(), message)
        assert isinstance(event, Ticker)
        assert (event.raw, event.symbol) == (data["symbol"], Names()[data["symbol"]])
        assert (event.last, event.ts) == (float(data["last_price"]), data["timestamp"] * 1_000_000)


def test_every_depth_of_the_document_is_a_whole_book(messages: dict[str, Any]) -> None:
    for message in generated(messages, "depth.depthData"):
        data = message["data"]
        (event,) = said(speaking(), message)
        assert isinstance(event, Book)
        assert event.snapshot
        assert event.raw == data["symbol"]
        assert event.bids == [(float(price), float(size)) for price, size in data["bids"]]
        assert event.asks == [(float(price), float(size)) for price, size in data["asks"]]


def test_every_trade_of_the_document_is_a_trade(messages: dict[str, Any]) -> None:
    for message in generated(messages, "trade.tradeData"):
        data = message["data"]
        (event,) = said(speaking(), message)
        assert isinstance(event, Trade)
        assert (event.price, event.size) == (float(data["price"]), float(data["quantity"]))
        assert event.side == {"buy": "buy", "sell": "sell", "neutral": ""}[data["side"]]


def test_every_pong_of_the_document_tells_the_venues_time(messages: dict[str, Any]) -> None:
    for message in generated(messages, "ping.pongResponse"):
        message["code"] = 0  # the schema allows any code
        assert said(speaking(), message) == [Alive(message["data"]["timestamp"] * 1_000_000, pong=True)]


@pytest.mark.parametrize("channel", ["ticker", "depth", "trade"])
def test_what_we_send_is_what_the_document_asks_for(messages: dict[str, Any], channel: str) -> None:
    ours = {"ticker": "ticker", "depth": "book", "trade": "trade"}[channel]
    wants = [Want(ours, raw, raw) for raw in ("AAPL.US", "BTCUSDT", "SPX@indices")]
    dialect = speaking()
    frames = asked(dialect.subscribe(wants) + dialect.unsubscribe(wants))
    assert len(frames) == 4, "those with a type go by themselves"
    for frame in frames:
        jsonschema.validate(frame, messages[f"{channel}.subscribeRequest"])
        assert frame["data"]["channel"] == channel


def test_our_ping_is_the_documents(messages: dict[str, Any]) -> None:
    ping = speaking().ping()
    assert ping is not None
    jsonschema.validate(json.loads(ping), messages["ping.pingRequest"])


# Requests and their answers

OK = {"code": 0, "message": "success", "data": {}}


def test_one_message_for_each_channel_with_all_its_symbols() -> None:
    wants = [
        Want(channel, raw, raw) for raw in ("AAPL.US", "700.HK") for channel in ("book", "trade", "quote", "ticker")
    ]
    assert asked(speaking().subscribe(wants)) == [
        {"cmd": "subscribe", "data": {"channel": channel, "symbols": ["AAPL.US", "700.HK"]}}
        for channel in ("depth", "trade", "ticker")
    ]


def test_a_ticker_that_still_serves_quotes_is_kept() -> None:
    dialect = speaking(("ticker", "EURUSD"), ("quote", "EURUSD"))
    assert dialect.unsubscribe([Want("ticker", "EURUSD", "EURUSD")]) == []
    assert asked(dialect.unsubscribe([Want("quote", "EURUSD", "EURUSD")])) == [
        {"cmd": "unsubscribe", "data": {"channel": "ticker", "symbols": ["EURUSD"]}}
    ]


def test_answers_are_matched_in_order() -> None:
    dialect = speaking(("book", "AAPL.US"), ("trade", "AAPL.US"))
    assert said(dialect, {"cmd": "subscribe", **OK}) == [Accepted((("book", "AAPL.US"),))]
    assert said(dialect, {"cmd": "subscribe", **OK}) == [Accepted((("trade", "AAPL.US"),))]
    assert said(dialect, {"cmd": "subscribe", **OK}) == [Alive()], "nothing else was asked"


def test_an_answer_that_echoes_its_request_is_matched_by_it() -> None:
    dialect = speaking(("book", "AAPL.US"), ("trade", "AAPL.US"))
    echo = {"channel": "trade", "symbols": ["AAPL.US"]}
    assert said(dialect, {"cmd": "subscribe", **OK, "data": echo}) == [Accepted((("trade", "AAPL.US"),))]


def test_an_answer_to_unsubscribe_confirms_nothing() -> None:
    dialect = speaking(("book", "AAPL.US"))
    dialect.unsubscribe([Want("book", "AAPL.US", "AAPL.US")])
    assert said(dialect, {"cmd": "unsubscribe", **OK}) == [Alive()]
    assert said(dialect, {"cmd": "subscribe", **OK}) == [Accepted((("book", "AAPL.US"),))]


def test_what_a_connection_remembers_survives_a_checkpoint() -> None:
    dialect = speaking(("book", "700.HK"), ("ticker", "SPX.US"), ("ticker", "SPX@indices"))
    said(dialect, {"cmd": "subscribe", "code": 2002, "message": "unknown symbol"})
    restored = speaking()
    restored.memory = msgspec.msgpack.decode(msgspec.msgpack.encode(dialect.memory), type=type(dialect.memory))
    depth = {"cmd": "depth", "data": {"symbol": "700", "bids": [["1", "1"]], "asks": [], "timestamp": 1}}
    ticker = {"cmd": "ticker", "data": {"symbol": "SPX", "last_price": "1", "timestamp": 1}}
    for frame in (depth, ticker, {"cmd": "subscribe", **OK}):
        assert said(restored, frame) == said(dialect, frame)
    again = [Want("ticker", "SPX.US", "SPX.US"), Want("ticker", "IXIC", "IXIC")]
    assert restored.subscribe(again) == dialect.subscribe(again)


# Codes

DOCUMENTED = {
    1001: "stop", 1002: "stop", 1003: "stop", 1004: "stop",
    2001: "drop", 2002: "drop", 2003: "drop", 2004: "drop",
    3001: "wait", 3002: "wait", 3003: "wait", 3004: "drop",
    4001: "drop", 4002: "drop", 4003: "drop", 4004: "drop",
    5000: "backoff", 5001: "backoff", 5002: "backoff",
}  # fmt: skip


@pytest.mark.parametrize(("code", "cure"), DOCUMENTED.items())
def test_every_code_has_its_remedy(code: int, cure: str) -> None:
    dialect = speaking(("book", "AAPL.US"))
    (answer,) = said(dialect, {"cmd": "subscribe", "code": code, "message": "no", "data": None})
    assert isinstance(answer, Rejected)
    assert (answer.reason, answer.code) == (REASONS[code], code)
    assert REMEDIES[answer.reason].remedy == cure
    assert answer.pairs == ((("book", "AAPL.US"),) if cure == "drop" else ()), "only what is dropped is named"


def test_no_code_is_missing() -> None:
    assert REASONS.keys() == DOCUMENTED.keys()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1999, "bad_key"),
        (2999, "bad_request"),
        (3999, "rate_limit"),
        (4999, "bad_request"),
        (9000, "venue_error"),
        (-1, "venue_error"),
    ],
)
def test_a_code_that_the_table_lacks_goes_by_its_thousand(code: int, reason: str) -> None:
    (answer,) = said(speaking(), {"cmd": "subscribe", "code": code, "message": "new"})
    assert isinstance(answer, Rejected)
    assert answer.reason == reason


@pytest.mark.parametrize(
    "refusal",
    [
        {"cmd": "subscribe", "code": 2001, "message": "AMBIGUOUS_SYMBOL: pass type indices or stock"},
        {"cmd": "subscribe", "code": "AMBIGUOUS_SYMBOL", "message": "pass type"},
    ],
)
def test_an_ambiguous_symbol_is_told_and_healed_by_its_type(refusal: object) -> None:
    (answer,) = said(speaking(("ticker", "SPX")), refusal)
    assert isinstance(answer, Rejected)
    assert (answer.reason, answer.pairs) == ("ambiguous_symbol", (("ticker", "SPX"),))
    dialect = speaking()
    assert asked(dialect.subscribe([Want("ticker", "SPX@indices", "SPX@indices")])) == [
        {"cmd": "subscribe", "data": {"channel": "ticker", "symbols": ["SPX"], "type": "indices"}}
    ]
    (event,) = said(dialect, {"cmd": "ticker", "data": {"symbol": "SPX", "last_price": "6000", "timestamp": 1}})
    assert isinstance(event, Ticker)
    assert event.raw == "SPX@indices"


@pytest.mark.parametrize(
    ("data", "wait"), [({"retry_after": 7}, 7), ({"Retry-After": "8"}, 8), ({"retry_after": 1e9}, 3600), ({}, -1)]
)
def test_a_rate_limit_says_how_long(data: object, wait: float) -> None:
    (answer,) = said(speaking(), {"cmd": "subscribe", "code": 3001, "message": "slow down", "data": data})
    assert isinstance(answer, Rejected)
    assert (answer.reason, answer.retry_after_s) == ("rate_limit", wait)


def test_a_suggestion_is_passed_on() -> None:
    refusal = {"cmd": "subscribe", "code": 4003, "message": "depth unavailable", "data": {"suggestion": "use REST"}}
    (answer,) = said(speaking(("book", "EURUSD")), refusal)
    assert isinstance(answer, Rejected)
    assert answer.text == "depth unavailable use REST"


@pytest.mark.parametrize(
    "refusal",
    [
        {"message": "unknown symbol NOPE.US."},
        {"message": "unknown symbol", "data": {"symbol": "NOPE.US"}},
        {"message": "unknown symbol", "data": {"symbols": ["NOPE.US"]}},
    ],
)
def test_only_the_symbol_that_is_named_is_dropped(refusal: dict[str, object]) -> None:
    (answer,) = said(speaking(("book", "AAPL.US"), ("book", "NOPE.US")), {"cmd": "subscribe", "code": 2002, **refusal})
    assert isinstance(answer, Rejected)
    assert answer.pairs == (("book", "NOPE.US"),)


@pytest.mark.parametrize("message", ["unknown symbol", "cannot subscribe AAPL.US, NOPE.US"])
def test_where_nobody_is_named_each_is_asked_alone_and_only_the_culprit_dropped(message: str) -> None:
    dialect = speaking(("book", "AAPL.US"), ("book", "NOPE.US"))
    (answer,) = said(dialect, {"cmd": "subscribe", "code": 2002, "message": message})
    assert isinstance(answer, Rejected)
    assert answer.pairs == ()
    again = dialect.subscribe([Want("book", raw, raw) for raw in ("AAPL.US", "NOPE.US", "TSLA.US")])
    assert [frame["data"]["symbols"] for frame in asked(again)] == [["AAPL.US"], ["NOPE.US"], ["TSLA.US"]]
    answers = said(dialect, {"cmd": "subscribe", **OK}, {"cmd": "subscribe", "code": 2002, "message": message})
    assert answers[0] == Accepted((("book", "AAPL.US"),))
    assert isinstance(answers[1], Rejected)
    assert answers[1].pairs == (("book", "NOPE.US"),)


# Spellings of symbols


@pytest.mark.parametrize(
    ("raw", "symbol"),
    [("BTCUSDT", "BTC-USDT"), ("ETHUSDC", "ETH-USDC"), ("1INCHUSDT", "1INCH-USDT")]
    + [(raw, raw) for raw in ("AAPL.US", "BRK.B.US", "700.HK", "000001.SZ", "EURUSD", "XAUUSD", "SPX", "BU2609", "AP8888", "USDT")],
)  # fmt: skip
def test_symbols_there_and_back(raw: str, symbol: str) -> None:
    assert Dialect.canonical(raw, Dialect.url) == symbol
    assert Dialect.native(symbol) == raw


@pytest.mark.parametrize(
    ("wanted", "spelled"),
    [("NVDA.US", "NVDA"), ("700.HK", "700"), ("700.HK", "00700"), ("00700.HK", "700"), ("00700.HK", "700.HK"),
     ("600519.SH", "600519"), ("BRK.B.US", "BRK.B"), ("NVDA.US", "NVDA.US")],
)  # fmt: skip
@pytest.mark.parametrize("channel", ["depth", "trade", "ticker"])
def test_data_without_the_suffix_reach_who_asked(wanted: str, spelled: str, channel: str) -> None:
    dialect = speaking(("book", wanted), ("trade", wanted), ("ticker", wanted))
    body = {"bids": [], "asks": [], "price": "1", "quantity": "1", "side": "buy", "last_price": "1", "timestamp": 1}
    (event,) = said(dialect, {"cmd": channel, "data": {"symbol": spelled, **body}})
    assert isinstance(event, Book | Trade | Ticker)
    assert (event.raw, event.symbol) == (wanted, wanted)


def test_a_code_that_two_symbols_claim_is_not_guessed() -> None:
    dialect = speaking(("book", "SPX.US"), ("book", "SPX@indices"))
    depth = {"symbol": "SPX", "bids": [["1", "1"]], "asks": [["2", "1"]], "timestamp": 1}
    assert said(dialect, {"cmd": "depth", "data": depth}) == [
        Damaged("'SPX' may be any of SPX.US, SPX@indices", "", "book")
    ]
    for type_, raw in (("stock", "SPX.US"), ("indices", "SPX@indices")):
        (event,) = said(dialect, {"cmd": "depth", "data": {**depth, "type": type_}})
        assert isinstance(event, Book)
        assert event.raw == raw


def test_channels_claim_their_codes_apart() -> None:
    dialect = speaking(("ticker", "SPX"), ("trade", "SPX.US"))
    trade = {"symbol": "SPX", "price": "1", "quantity": "1", "side": "buy", "timestamp": 1}
    (event,) = said(dialect, {"cmd": "trade", "data": trade})
    assert isinstance(event, Trade)
    assert event.raw == "SPX.US"


# Shapes

LEVELS = [(10.5, 2.0), (10.0, 3.0)]


@pytest.mark.parametrize(
    "rows",
    [
        [["10.50", "2"], ["10.0", "3.00"]],
        [[10.5, 2], [10.0, 3]],
        [[10.5, "2"], ["10.0", 3]],
        [["10.5", "2", "17"], ["10", "3", "1"]],
        [["10.5", "2"], ["10.2", "0.00"], ["10", "3"]],
        [{"price": "10.5", "quantity": "2"}, {"price": "10", "quantity": "3"}],
        [{"price": 10.5, "quantity": 2.0}, {"price": 10.0, "quantity": 3, "orders": 1}],
    ],
)
def test_levels_in_every_shape(rows: list[object]) -> None:
    depth = {"symbol": "BTCUSDT", "bids": rows, "asks": [], "timestamp": 1703123456789}
    for separators in (None, (",", ":")):
        data = json.dumps({"cmd": "depth", "data": depth}, separators=separators).encode()
        assert speaking().decode(data, RECV) == type(speaking().decode(data, RECV))(
            [Book("tickdb", "BTC-USDT", "BTCUSDT", 1703123456789_000_000, RECV, LEVELS, [], True)]
        )


@pytest.mark.parametrize(
    "row",
    [
        ["0", "1"],
        ["-1", "1"],
        ["1", "-1"],
        ["NaN", "1"],
        ["1", "Infinity"],
        ["1"],
        ["x", "1"],
        [None, 1],
        {"price": 1},
        7,
    ],
)
def test_a_level_that_cannot_be_is_damage(row: object) -> None:
    depth = {"symbol": "700", "bids": [["1", "1"], row], "asks": [], "timestamp": 1}
    (event,) = said(speaking(("book", "700.HK")), {"cmd": "depth", "data": depth})
    assert isinstance(event, Damaged)
    assert (event.raw, event.channel) == ("700.HK", "book")


def test_a_book_without_a_side_is_damage_and_not_an_empty_side() -> None:
    (event,) = said(speaking(), {"cmd": "depth", "data": {"symbol": "BTCUSDT", "bids": [["1", "1"]], "timestamp": 1}})
    assert isinstance(event, Damaged)


def test_trades_in_an_array_with_ids() -> None:
    rows = [
        {"id": "a1", "price": "10.5", "quantity": "2", "side": "buy", "timestamp": 1},
        {"id": 7, "price": 10, "quantity": 3, "side": "neutral", "timestamp": 2},
    ]
    assert said(speaking(), {"cmd": "trade", "data": {"symbol": "BTCUSDT", "trades": rows}}) == [
        Trade("tickdb", "BTC-USDT", "BTCUSDT", 1_000_000, RECV, 10.5, 2.0, "buy", "a1"),
        Trade("tickdb", "BTC-USDT", "BTCUSDT", 2_000_000, RECV, 10.0, 3.0, "", "7"),
    ]


def test_a_damaged_trade_does_not_spoil_its_siblings() -> None:
    rows = [{"price": price, "quantity": "1", "side": "sell", "timestamp": 1} for price in ("1", "NaN", "2")]
    events = said(speaking(), {"cmd": "trade", "data": {"symbol": "BTCUSDT", "trades": rows}})
    assert [type(event) for event in events] == [Damaged, Trade, Trade]


def test_a_trade_of_an_unknown_side_flows_on_and_is_counted() -> None:
    row = {"symbol": "BTCUSDT", "price": "1", "quantity": "1", "side": "auction", "timestamp": 1}
    damaged, trade = said(speaking(), {"cmd": "trade", "data": row})
    assert isinstance(damaged, Damaged)
    assert isinstance(trade, Trade)
    assert (trade.price, trade.side) == (1.0, "")


def test_a_ticker_of_forex_is_a_quote_too() -> None:
    data = {
        "symbol": "EURUSD",
        "last_price": "1.1",
        "bid_price": "1.09",
        "ask_price": "1.11",
        "spread": "0.02",
        "timestamp": 1,
    }
    assert said(speaking(), {"cmd": "ticker", "data": data}) == [
        Quote("tickdb", "EURUSD", "EURUSD", 1_000_000, RECV, 1.09, 0.0, 1.11, 0.0),
        Ticker("tickdb", "EURUSD", "EURUSD", 1_000_000, RECV, 1.1, 1.09, None, 1.11),
    ]


def test_a_ticker_keeps_what_can_be_read() -> None:
    data = {"symbol": "NVDA", "last_price": "150", "volume_24h": "", "high_24h": None, "low_24h": "149", "timestamp": 1}
    assert said(speaking(("ticker", "NVDA.US")), {"cmd": "ticker", "data": data}) == [
        Damaged("volume_24h: another type than expected", "NVDA.US", "ticker"),
        Ticker("tickdb", "NVDA.US", "NVDA.US", 1_000_000, RECV, 150.0, low=149.0),
    ]


def test_several_documents_in_one_message() -> None:
    depth = {"cmd": "depth", "data": {"symbol": "BTCUSDT", "bids": [["1", "1"]], "asks": [], "timestamp": 1}}
    trade = {
        "cmd": "trade",
        "data": {"symbol": "BTCUSDT", "price": "1", "quantity": "1", "side": "buy", "timestamp": 1},
    }
    compact = [json.dumps(each, separators=(",", ":")).encode() for each in (depth, trade, depth)]
    assert [type(event) for event in speaking().decode(b"\n".join(compact) + b"\n", RECV)] == [Book, Trade, Book]
    torn = speaking().decode(b"\n".join([compact[0], compact[1][:30], compact[2]]), RECV)
    assert [type(event) for event in torn] == [Book, Damaged, Book]


def test_a_document_over_several_lines_is_one() -> None:
    depth = {"cmd": "depth", "data": {"symbol": "BTCUSDT", "bids": [["1", "1"]], "asks": [], "timestamp": 1}}
    assert [type(event) for event in speaking().decode(json.dumps(depth, indent=1).encode(), RECV)] == [Book]


@pytest.mark.parametrize(
    "data", [b"", b"x", b"{", b"x\ny", b'{"cmd":"depth","data":', b"[1]", b'{"cmd":7}', b'{"cmd":"\xff"}']
)
def test_garbage_raises_what_the_pump_expects(data: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        speaking().decode(data, RECV)


def test_other_channels_are_ignored_and_nothing_is_an_error() -> None:
    assert said(speaking(), {"cmd": "kline", "data": {}}) == [Ignored("kline")]
    assert said(speaking(), {"code": 0, "message": "welcome"}) == [Alive()]


# REST and plans


def test_instruments_of_the_documented_answer() -> None:
    row = {"name": "平安银行", "market": "CN", "type": "stock", "currency": "CNY", "updated_at": "2026-03-15T20:27:58Z"}
    products = [{"symbol": "000001.SZ", "is_active": True, **row}, {"symbol": "BTCUSDT", "is_active": False, **row}]
    summary = {"total_products": 32492, "by_market": {"CN": 6643}, "last_updated": "2026-03-27T11:09:44+08:00"}
    body = {
        "code": 0,
        "message": "success",
        "data": {"products": products, "summary": summary, "pagination": {"limit": 10}},
    }
    found = Dialect.decode_instruments(json.dumps(body).encode())
    assert [(each.symbol, each.raw, each.status) for each in found] == [
        ("000001.SZ", "000001.SZ", "active"),
        ("BTC-USDT", "BTCUSDT", "inactive"),
    ]
    with pytest.raises(ValueError, match="1002 key missing"):
        Dialect.decode_instruments(b'{"code":1002,"message":"key missing","data":null}')


def test_the_key_is_a_placeholder() -> None:
    assert Dialect.url == "wss://api.tickdb.ai/v1/realtime?api_key={secret}"


def test_the_free_plan_has_no_books() -> None:
    assert "book" not in PLANS["free"].channels
    assert [plan.subscriptions for plan in PLANS.values()] == sorted(plan.subscriptions for plan in PLANS.values())

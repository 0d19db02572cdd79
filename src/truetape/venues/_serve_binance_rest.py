"""Binance spot's REST answers that clients ask for. Not a venue of its own; `_serve_binance.py` is the stream.

Sources: binance-spot-api-docs a5e0bc3 (2026-07-21, rest-api.md); ccxt and cryptofeed read the filters, PRICE_FILTER first. A depth
answer is the book as the stream has told it so far: never older than a diff that was sent, never ahead of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from truetape.core.feed.counterpart import Ladder, Listed, Reply
from truetape.core.feed.write import decimal

MS = 1_000_000
LIMIT = 100
LIMIT_MAX = 5000
_encode: Callable[[object], bytes] = msgspec.json.encode


def answer(listed: Mapping[str, Listed], path: str, query: Mapping[str, str], now: int) -> Reply:
    """A plain GET."""
    if path == "/api/v3/ping":
        return Reply(200, b"{}")
    if path == "/api/v3/time":
        return Reply(200, _encode({"serverTime": now // MS}))
    if path == "/api/v3/exchangeInfo":
        return _exchange_info(listed, query, now)
    if path == "/api/v3/depth":
        return _depth(listed, query)
    return Reply(404, b"")


def _refuse(code: int, text: str) -> Reply:
    return Reply(400, _encode({"code": code, "msg": text}))


def _depth(listed: Mapping[str, Listed], query: Mapping[str, str]) -> Reply:
    row = listed.get(query.get("symbol", ""))
    if row is None:
        if "symbol" not in query:
            return _refuse(-1102, "Mandatory parameter 'symbol' was not sent.")
        return _refuse(-1121, "Invalid symbol.")
    limit = query.get("limit", str(LIMIT))
    if not limit.isdecimal() or int(limit) < 1:
        return _refuse(-1100, "Illegal characters found in parameter 'limit'.")
    depth = min(int(limit), LIMIT_MAX)
    bids, asks = _side(row, row.bids, depth), _side(row, row.asks, depth)
    return Reply(200, f'{{"lastUpdateId":{row.seq},"bids":[{bids}],"asks":[{asks}]}}'.encode())


def _side(row: Listed, side: Ladder, depth: int) -> str:
    price_step, size_step = 10 ** (8 - row.instrument.price_decimals), 10 ** (8 - row.instrument.size_decimals)
    return ",".join(
        f'["{decimal(price * price_step, 8)}","{decimal(size * size_step, 8)}"]' for price, size in side.top(depth)
    )


def _exchange_info(listed: Mapping[str, Listed], query: Mapping[str, str], now: int) -> Reply:
    wanted = list(listed)
    try:
        if "symbol" in query:
            wanted = [query["symbol"]]
        elif "symbols" in query:
            wanted = msgspec.json.decode(query["symbols"], type=list[str])
    except msgspec.MsgspecError:
        return _refuse(-1100, "Illegal characters found in parameter 'symbols'.")
    if any(raw not in listed for raw in wanted):
        return _refuse(-1121, "Invalid symbol.")
    rows = [_symbol(listed[raw]) for raw in wanted]
    body = {"timezone": "UTC", "serverTime": now // MS, "rateLimits": [], "exchangeFilters": [], "symbols": rows}
    return Reply(200, _encode(body))


def _symbol(row: Listed) -> dict[str, object]:
    instrument = row.instrument
    base, _, quote = instrument.symbol.partition("-")
    tick, lot = (decimal(10 ** (8 - places), 8) for places in (instrument.price_decimals, instrument.size_decimals))
    most = "92141578.00000000"
    return {
        "symbol": instrument.raw, "status": "TRADING", "baseAsset": base, "baseAssetPrecision": 8, "quoteAsset": quote,
        "quotePrecision": 8, "quoteAssetPrecision": 8, "baseCommissionPrecision": 8, "quoteCommissionPrecision": 8,
        "orderTypes": ["LIMIT", "MARKET"], "icebergAllowed": True, "ocoAllowed": True, "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": most, "tickSize": tick},
            {"filterType": "LOT_SIZE", "minQty": lot, "maxQty": most, "stepSize": lot},
            {"filterType": "NOTIONAL", "minNotional": "5.00000000", "applyMinToMarket": True, "avgPriceMins": 5},
        ],
        "permissions": [], "permissionSets": [["SPOT"]], "defaultSelfTradePreventionMode": "NONE",
    }  # fmt: skip

"""Kraken's public REST answers that clients ask for before they subscribe. Not a venue of its own.

Sources: docs.kraken.com/api (AssetPairs, Assets, SystemStatus; read 2026-11); python-kraken-sdk asks `AssetPairs?pair=BTC/USDT` and
reads the answer under that name. Errors come with HTTP status 200, as the venue's do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from truetape.core.feed.counterpart import Listed, Reply
from truetape.core.feed.write import decimal, rfc3339

OLD_NAMES = {"BTC": "XBT", "DOGE": "XDG"}
"""REST still says XBT and XDG where v2 says BTC and DOGE."""
_encode: Callable[[object], bytes] = msgspec.json.encode


def answer(listed: Mapping[str, Listed], path: str, query: Mapping[str, str], now: int) -> Reply:
    """A plain GET."""
    if path == "/0/public/AssetPairs":
        return _asset_pairs(listed, query.get("pair", ""))
    if path == "/0/public/Assets":
        return _ok({_old(name): _asset(name) for name in sorted({part for raw in listed for part in raw.split("/")})})
    if path == "/0/public/Time":
        return _ok({"unixtime": now // 1_000_000_000})
    if path == "/0/public/SystemStatus":
        return _ok({"status": "online", "timestamp": rfc3339(now)[:19] + "Z"})
    return _failed("EGeneral:Unknown method", 404)


def _ok(result: object) -> Reply:
    return Reply(200, _encode({"error": [], "result": result}))


def _failed(error: str, status: int = 200) -> Reply:
    return Reply(status, _encode({"error": [error]}))


def _old(name: str) -> str:
    name = OLD_NAMES.get(name, name)
    return f"X{name}" if name in ("XBT", "ETH", "XRP", "LTC", "XDG") else name


def _asset(name: str) -> dict[str, object]:
    return {
        "aclass": "currency",
        "altname": OLD_NAMES.get(name, name),
        "decimals": 10,
        "display_decimals": 5,
        "status": "enabled",
    }


def _asset_pairs(listed: Mapping[str, Listed], asked: str) -> Reply:
    """All pairs by the venue's own key, or those asked for under the name by which they were asked."""
    if not asked:
        return _ok({_key(raw): _pair(row) for raw, row in listed.items()})
    known = {name: row for raw, row in listed.items() for name in (raw, _key(raw), raw.replace("/", ""), _wsname(raw))}
    if any(name not in known for name in asked.split(",")):
        return _failed("EQuery:Unknown asset pair")
    return _ok({name: _pair(known[name]) for name in asked.split(",")})


def _wsname(raw: str) -> str:
    return "/".join(OLD_NAMES.get(part, part) for part in raw.split("/"))


def _key(raw: str) -> str:
    return _wsname(raw).replace("/", "")


def _pair(row: Listed) -> dict[str, object]:
    instrument = row.instrument
    base, quote = instrument.raw.split("/")
    places, digits = instrument.price_decimals, instrument.size_decimals
    return {
        "altname": _key(instrument.raw), "wsname": _wsname(instrument.raw), "aclass_base": "currency", "base": _old(base),
        "aclass_quote": "currency", "quote": _old(quote), "lot": "unit", "cost_decimals": 5, "pair_decimals": places,
        "lot_decimals": digits, "lot_multiplier": 1, "leverage_buy": [], "leverage_sell": [], "fees": [[0, 0.4]],
        "fees_maker": [[0, 0.25]], "fee_volume_currency": "ZUSD", "margin_call": 80, "margin_stop": 40,
        "ordermin": decimal(1, digits), "costmin": "0.5", "tick_size": decimal(1, places), "status": "online",
    }  # fmt: skip

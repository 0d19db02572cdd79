"""Kraken v2's messages, written from books and trades in whole steps. Not a venue of its own; `_serve_kraken.py` says when.

Sources: docs.kraken.com/api (book v2, trade, ticker, ohlc; read 2026-11) and the recorded frames of 2026-07-07. Numbers have every digit of
the pair, and the checksum covers the best ten levels.
"""

from __future__ import annotations

from bisect import bisect_left
from zlib import crc32

from truetape.core.feed.counterpart import Ladder, Listed, Print, Steps
from truetape.core.feed.write import decimal, rfc3339

SUMMED = 10  # levels of each side under the checksum
EVERYTHING = -(1 << 62)


def checksum(bids: Ladder, asks: Ladder) -> int:
    """Ten asks lowest first, then ten bids highest first. Digits without point and leading zeros are the number of steps."""
    text = [f"{abs(key)}{side.sizes[key]}" for side in (asks, bids) for key in side.keys[: -SUMMED - 1 : -1]]
    return crc32("".join(text).encode())


def levels_of(levels: list[Steps], places: int, digits: int) -> str:
    return ",".join([f'{{"price":{decimal(price, places)},"qty":{decimal(size, digits)}}}' for price, size in levels])


def edge(side: Ladder, depth: int) -> int:
    return side.keys[-depth] if len(side.keys) >= depth else EVERYTHING


def window(side: Ladder, touched: list[Steps], before: int, after: int) -> list[Steps]:
    """What a client holding everything down to key `before` must be told, so that it holds all down to `after`: removals first."""
    sign = side.sign
    gone = [(price, 0) for price, size in touched if not size and price * sign >= before]
    told = [level for level in touched if level[1] and level[0] * sign >= after]
    if after < before:
        known = {price * sign for price, _ in touched}
        back = side.keys[bisect_left(side.keys, after) : bisect_left(side.keys, before)]
        told += [(abs(key), side.sizes[key]) for key in back if key not in known]
    return gone + told


def relayed(channel: str, kind: str, members: list[bytes], at: int) -> bytes:
    """The venue's own members of a message, in a message of ours; an update of candles says when it came."""
    word = "ticker" if channel == "ticker" else "ohlc"
    time = f'"timestamp":"{rfc3339(at)}",' if at and word == "ohlc" else ""
    return f'{{"channel":"{word}","type":"{kind}",{time}"data":['.encode() + b",".join(members) + b"]}"


def trades(listed: Listed, prints: list[Print], kind: str) -> bytes:
    places, digits = listed.instrument.price_decimals, listed.instrument.size_decimals
    rows = ",".join(
        f'{{"symbol":"{listed.instrument.raw}","side":"{trade.side}","price":{decimal(trade.price, places)},'
        f'"qty":{decimal(trade.size, digits)},"ord_type":"limit","trade_id":{trade.id + 1},"timestamp":"{rfc3339(trade.ts)}"}}'
        for trade in prints
    )
    return f'{{"channel":"trade","type":"{kind}","data":[{rows}]}}'.encode()


def snapshot(listed: Listed, depth: int, now: int) -> bytes:
    places, digits = listed.instrument.price_decimals, listed.instrument.size_decimals
    bids, asks = listed.bids.top(depth), listed.asks.top(depth)
    return (
        f'{{"channel":"book","type":"snapshot","data":[{{"symbol":"{listed.instrument.raw}",'
        f'"bids":[{levels_of(bids, places, digits)}],"asks":[{levels_of(asks, places, digits)}],'
        f'"checksum":{checksum(listed.bids, listed.asks)},"timestamp":"{rfc3339(now)}"}}]}}'
    ).encode()


def ticker(listed: Listed, kind: str, now: int) -> bytes:
    places, digits = listed.instrument.price_decimals, listed.instrument.size_decimals
    day, bid, ask = listed.day, listed.bids.top(1)[0], listed.asks.top(1)[0]
    change = day.close - day.open
    prices = {"bid": bid[0], "ask": ask[0], "last": day.close, "vwap": day.mean, "low": day.low, "high": day.high}
    return (
        f'{{"channel":"ticker","type":"{kind}","data":[{{"symbol":"{listed.instrument.raw}",'
        + "".join([f'"{name}":{decimal(price, places)},' for name, price in prices.items()])
        + f'"bid_qty":{decimal(bid[1], digits)},"ask_qty":{decimal(ask[1], digits)},"volume":{decimal(day.size, digits)},'
        f'"change":{"-" * (change < 0)}{decimal(abs(change), places)},"change_pct":{100 * change / day.open:.2f},'
        f'"timestamp":"{rfc3339(now)}"}}]}}'
    ).encode()


def ohlc(listed: Listed, minutes: int, kind: str, now: int) -> bytes:
    places, digits = listed.instrument.price_decimals, listed.instrument.size_decimals
    bar = listed.candle(minutes * 60, now)[0]
    prices = {"open": bar.open, "high": bar.high, "low": bar.low, "close": bar.close, "vwap": bar.mean}
    return (
        f'{{"channel":"ohlc","type":"{kind}","timestamp":"{rfc3339(now)}","data":[{{"symbol":"{listed.instrument.raw}",'
        + "".join(f'"{name}":{decimal(price, places)},' for name, price in prices.items())
        + f'"trades":{bar.count},"volume":{decimal(bar.size, digits)},"interval_begin":"{rfc3339(bar.start)}",'
        f'"interval":{minutes},"timestamp":"{rfc3339(bar.start + minutes * 60_000_000_000)}"}}]}}'
    ).encode()

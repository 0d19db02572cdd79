"""Binance spot's messages, written from books and trades in whole steps. Not a venue of its own; `_serve_binance.py` says when.

Source: binance-spot-api-docs a5e0bc3 (2026-07-21, web-socket-streams.md). Eight decimals, whatever the grain of the symbol.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from truetape.core.feed.counterpart import Candle, Change, Listed, Print
from truetape.core.feed.write import decimal

MS = 1_000_000
_encode: Callable[[object], bytes] = msgspec.json.encode


def pair(instrument_decimals: tuple[int, int], price: int, size: int) -> str:
    """`"67123.40000000","0.00120000"`: eight decimals, whatever the grain of the symbol."""
    places, digits = instrument_decimals
    return f'"{decimal(price * 10 ** (8 - places), 8)}","{decimal(size * 10 ** (8 - digits), 8)}"'


def diff(listed: Listed, change: Change) -> bytes:
    """The levels of a diff, written once for all clients."""
    made = change.made.get(("diff", 0))
    if made is None:
        grain = (listed.instrument.price_decimals, listed.instrument.size_decimals)
        bids = ",".join([f"[{pair(grain, *level)}]" for level in change.bids])
        asks = ",".join([f"[{pair(grain, *level)}]" for level in change.asks])
        made = change.made["diff", 0] = f'"b":[{bids}],"a":[{asks}]}}'.encode()
    return made


def partial(listed: Listed, change: Change, depth: int) -> bytes:
    """The best levels of the book that the change left."""
    made = change.made.get(("partial", depth))
    if made is None:
        grain = (listed.instrument.price_decimals, listed.instrument.size_decimals)
        sides = [
            ",".join([f"[{pair(grain, *level)}]" for level in side.top(depth)]) for side in (listed.bids, listed.asks)
        ]
        made = f'{{"lastUpdateId":{change.seq},"bids":[{sides[0]}],"asks":[{sides[1]}]}}'.encode()
        change.made["partial", depth] = made
    return made


def trade(listed: Listed, trade: Print, now: int) -> bytes:
    grain = (listed.instrument.price_decimals, listed.instrument.size_decimals)
    price, size = pair(grain, trade.price, trade.size).split(",")
    maker = "true" if trade.side == "sell" else "false"
    return (
        f'{{"e":"trade","E":{now // MS},"s":"{listed.instrument.raw}","t":{trade.id},"p":{price},"q":{size},"T":{trade.ts // MS},'
        f'"m":{maker},"M":true}}'
    ).encode()


def merged(prints: Sequence[Print]) -> list[list[Print]]:
    """Trades of one taker at one price belong to one aggregate."""
    rows: list[list[Print]] = []
    for trade in prints:
        if rows and (rows[-1][0].taker, rows[-1][0].price) == (trade.taker, trade.price):
            rows[-1].append(trade)
        else:
            rows.append([trade])
    return rows


def aggregate(listed: Listed, row: Sequence[Print], now: int) -> bytes:
    first, last = row[0], row[-1]
    grain = (listed.instrument.price_decimals, listed.instrument.size_decimals)
    price, size = pair(grain, first.price, sum(trade.size for trade in row)).split(",")
    maker = "true" if first.side == "sell" else "false"
    return (
        f'{{"e":"aggTrade","E":{now // MS},"s":"{listed.instrument.raw}","a":{first.id},"p":{price},"q":{size},"f":{first.id},'
        f'"l":{last.id},"T":{first.ts // MS},"m":{maker},"M":true}}'
    ).encode()


def amounts(listed: Listed, candle: Candle) -> dict[str, str]:
    """The names that klines and summaries share: o c h l v q V Q."""
    places, digits = listed.instrument.price_decimals, listed.instrument.size_decimals
    prices = {"o": candle.open, "c": candle.close, "h": candle.high, "l": candle.low}
    row = {name: decimal(price, places) for name, price in prices.items()}
    row |= {"v": decimal(candle.size, digits), "V": decimal(candle.buy_size, digits)}
    return row | {"q": decimal(candle.value, places + digits), "Q": decimal(candle.buy_value, places + digits)}


def kline(listed: Listed, candle: Candle, span: str, closed: bool, now: int) -> bytes:
    raw = listed.instrument.raw
    end = candle.start // MS + candle.length * 1000 - 1
    row: dict[str, object] = {
        "t": candle.start // MS,
        "T": end,
        "s": raw,
        "i": span,
        "f": candle.first_id,
        "L": candle.last_id,
    }
    row |= {"n": candle.count, "x": closed, **amounts(listed, candle), "B": "0"}
    return _encode({"e": "kline", "E": now // MS, "s": raw, "k": row})


def summary(listed: Listed, kind: str, now: int) -> bytes:
    """`24hrTicker` since the start of the simulation, or the short form of it."""
    day, raw = listed.day, listed.instrument.raw
    row = amounts(listed, day)
    short = {name: row[name] for name in "ochlvq"}
    if kind == "miniTicker":
        return _encode({"e": "24hrMiniTicker", "E": now // MS, "s": raw, **short})
    places, digits = listed.instrument.price_decimals, listed.instrument.size_decimals
    best = listed.bids.top(1) + listed.asks.top(1)
    change = day.close - day.open
    row |= {
        "p": "-" * (change < 0) + decimal(abs(change), places),
        "P": f"{100 * change / day.open:.3f}",
        "x": row["o"],
    }
    row |= {"w": decimal(day.mean, places)}
    row |= {"b": decimal(best[0][0], places), "B": decimal(best[0][1], digits)}
    row |= {"a": decimal(best[1][0], places), "A": decimal(best[1][1], digits)}
    del row["V"], row["Q"]
    times = {"O": day.start // MS, "C": now // MS, "F": day.first_id, "L": day.last_id, "n": day.count}
    return _encode({"e": "24hrTicker", "E": now // MS, "s": raw, **row, **times})

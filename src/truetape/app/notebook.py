"""What a notebook shows of our objects: plain tables, everything escaped, no colours, so that they are at home on light and on dark pages.

Names and reasons come from venues, and a page believes what it is given; so nothing gets into one but through `table`. Next door: the objects'
`_repr_html_`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from html import escape
from typing import Any

from msgspec.structs import astuple

from truetape.app.secrets import redact
from truetape.model.event import KINDS, Bar, Book, Gap, Lagged, Ledger, Level, Market, Quote, Status, Ticker, Trade

ROWS = 10
"""Rows of a table, at most; how many more there are stands below it."""
TEXT_MAX = 300
"""Characters of one cell: a venue may say more."""


class StatusTree(dict[str, Any]):
    """What `truetape status --json` prints, and a table of it in a notebook."""

    def _repr_html_(self) -> str:
        rows = [
            (
                f"{row['venue']}:{row['symbol']}",
                row["channel"],
                row["state"],
                row["evidence"],
                row["reason"],
                row["age_s"],
            )
            for row in self["subscriptions"]
        ]
        rows.sort(key=lambda row: row[2] in ("LIVE", "QUIET"))  # what is not well comes first
        links = sum(row["state"] == "OPEN" for row in self["connections"])
        caption = f"truetape {self['version']}, up for {self['uptime_s']:,.0f} s, {links} of {len(self['connections'])} connections open"
        memory = self.get("memory")
        if memory:
            caption += f", {memory['rss_mb']:g} of {memory['budget_mb']} MB"
        return table(caption, ("subscription", "channel", "state", "evidence", "reason", "age (s)"), rows)


def table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[object]], most: int = ROWS) -> str:
    """A table of text and numbers; numbers stand to the right."""
    head = "".join(f"<th>{_text(one)}</th>" for one in heads)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows[:most])
    more = f"<p>… and {len(rows) - most:,} more</p>" if len(rows) > most else ""
    return (
        f"<table><caption>{_text(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"
    )


def ladder(caption: str, bids: Sequence[Level], asks: Sequence[Level]) -> str:
    """The best levels of a book, the highest price first."""
    rows: list[tuple[object, ...]] = [("", price, size) for price, size in reversed(asks)]
    rows += [(size, price, "") for price, size in bids]
    return table(caption, ("bid size", "price", "ask size"), rows, len(rows))


def of_events(events: Sequence[Market]) -> str:
    """The last of them, and how many of each kind."""
    counts: dict[str, int] = {}
    for event in events:
        kind = KINDS[type(event)]
        counts[kind] = counts.get(kind, 0) + 1
    caption = (
        f"{len(events):,} events" + (": " if counts else "") + ", ".join(f"{n:,} {kind}" for kind, n in counts.items())
    )
    rows = [
        (_utc(getattr(event, "recv", 0)), KINDS[type(event)], f"{event.venue}:{event.symbol}", _said(event))
        for event in reversed(events[-ROWS:])
    ]
    return table(caption, ("received (UTC)", "kind", "symbol", "what"), rows)


def of_subscriptions(caption: str, rows: Sequence[tuple[str, str, int, Ledger]]) -> str:
    """Subscriptions at a gateway elsewhere: name, state, how often connected anew, what became of what came."""
    heads = ("subscription", "state", "reconnects", *Ledger.__struct_fields__)
    return table(caption, heads, [(name, state, count, *astuple(ledger)) for name, state, count, ledger in rows])


def _said(event: Market) -> str:
    """One event in a few words."""
    match event:
        case Trade():
            return f"{event.side} {_number(event.size)} at {_number(event.vwap if event.count > 1 else event.price)}".strip()
        case Quote():
            return f"{_number(event.bid)} | {_number(event.ask)}"
        case Book():
            best = " | ".join(_number(side[0][0]) if side else "none" for side in (event.bids, event.asks))
            count = f"{len(event.bids)} and {len(event.asks)} levels"
            return f"{best}, {count}" if event.snapshot else f"{count} change"
        case Bar():
            return f"{event.interval}: {', '.join(map(_number, (event.open, event.high, event.low, event.close)))}"
        case Ticker():
            return f"last {_number(event.last)}" if event.last is not None else ""
        case Gap():
            return f"{event.channel}: {event.reason}{', recovered' if event.recovered else ''}"
        case Lagged():
            return f"{event.topic}: {event.dropped:,} missing, {event.reason}"
        case Status():
            return f"{event.channel} {event.state}: {event.reason}".strip()


def _cell(value: object) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f'<td style="text-align:right">{_number(value)}</td>'
    return f'<td style="text-align:left">{_text("" if value is None else str(value))}</td>'


def _number(value: float) -> str:
    """All digits, and none in the tenth power: a price is read digit by digit."""
    return f"{value:,}" if isinstance(value, int) else format(Decimal(repr(value)), "f").removesuffix(".0")


def _utc(ns: int) -> str:
    """A time of a day that there is; of a gateway elsewhere it may be anything."""
    try:
        return datetime.fromtimestamp(ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] if ns else ""
    except (ValueError, OverflowError, OSError):
        return str(ns)


def _text(value: str) -> str:
    return escape(redact(value)[:TEXT_MAX])

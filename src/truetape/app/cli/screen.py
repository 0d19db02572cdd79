"""What a person sees in a terminal: books, a ladder, consumers and health, drawn with rich.

It fits the window: what matters less goes first where there is no room (see `COLUMNS`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from rich import box
from rich.bar import Bar
from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from truetape.app.cli.page import page
from truetape.app.live import Gateway
from truetape.app.secrets import redact
from truetape.core.book import metrics
from truetape.core.feed.health import Stream
from truetape.model.event import Level

COLOURS = {
    "LIVE": "green",
    "QUIET": "cyan",
    "SYNCING": "yellow",
    "RESYNC": "yellow",
    "GAP": "red",
    "STALE": "red",
    "SUSPECT": "magenta",
    "CLOSED": "dim",
    "OPEN": "green",
}
LADDER_FROM = 140
"""Columns of a window that has room for a ladder beside the books."""
LEDGER = ("received", "delivered", "conflated", "dropped", "expired", "queued")


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def places(price: float) -> int:
    """As many digits as a person needs to tell two levels apart."""
    return 2 if price >= 100 else 4 if price >= 1 else 6


def price(value: float) -> str:
    """One price."""
    return _number(value, places(value))


def balance(share: float | None, width: int = 8) -> Text:
    """A small gauge of imbalance: bids from the left, asks from the right."""
    if share is None:
        return Text("-")
    filled = round((share + 1) / 2 * width)
    gauge = Text("█" * filled, style="green") + Text("░" * (width - filled), style="red")
    return gauge + Text(f" {share:+.2f}")


def _table(*heads: str) -> Table:
    """Words to the left, numbers to the right."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), expand=True)
    for head in heads:
        left = head in (
            "book",
            "state",
            "proof",
            "reason",
            "connection",
            "consumer",
            "mode",
            "balanced",
            "imbalance",
            "subscription",
            "channel",
        )
        table.add_column(head, justify="left" if left else "right", no_wrap=True)
    return table


class Row(NamedTuple):
    """What a line about a LIVE book is made from."""

    stream: Stream
    bids: list[Level]
    asks: list[Level]


COLUMNS: tuple[tuple[str, int, Callable[[Row], str | Text]], ...] = (
    ("bid", 0, lambda row: price(row.bids[0][0]) if row.bids else "-"),
    ("ask", 0, lambda row: price(row.asks[0][0]) if row.asks else "-"),
    ("spread", 110, lambda row: _number(metrics.spread(row.bids, row.asks), places(row.bids[0][0]) if row.bids else 2)),
    ("bps", 0, lambda row: _number(metrics.spread_bps(row.bids, row.asks))),
    ("pressure", 100, lambda row: _number(metrics.pressure(row.bids, row.asks, 5))),
    ("imbalance", 70, lambda row: balance(metrics.imbalance(row.bids, row.asks, 5))),
)
"""What is said of a LIVE book: its head, the least width of the window, and the cell. Pressure and imbalance are over five levels."""


def books(streams: list[Stream], most: int = 12, width: int = 120) -> Table:
    """One row for each book, `most` of them."""
    columns = [(head, cell) for head, least, cell in COLUMNS if width >= least]
    proof, count = width >= 90, width >= 110
    table = _table(
        "book", "state", *(["proof"] if proof else []), *(head for head, _ in columns), *(["messages"] if count else [])
    )
    shown = streams if len(streams) <= most else streams[: max(0, most - 1)]
    for stream in shown:
        sync = stream.sync
        assert sync is not None, "book streams have a sync"
        cells: list[str | Text] = [
            f"{stream.venue}:{stream.symbol}",
            Text(stream.state, style=COLOURS.get(stream.state, "")),
        ]
        if proof:
            cells.append(sync.evidence)
        if stream.state == "LIVE" and sync.live:
            row = Row(stream, sync.book.bids(5), sync.book.asks(5))
            cells += [cell(row) for _, cell in columns]
        else:
            cells += [""] * len(columns)
        table.add_row(*cells, *([f"{stream.count:,}"] if count else []))
    if len(shown) < len(streams):
        table.add_row(Text(f"and {len(streams) - len(shown)} more", style="dim"))
    return table


def doubts(gateway: Gateway, most: int = 4) -> list[Text]:
    """What is not as it should be, and why, a line each: connections first, for books follow them."""
    rows: list[tuple[str, str, str]] = [
        (link.source, link.session.state, link.session.reason)
        for link in gateway.pump.links.values()
        if link.session is not None and link.session.state != "OPEN"
    ]
    rows += [(f"{s.venue}:{s.symbol}", s.state, s.reason) for s in book_streams(gateway) if s.state != "LIVE"]
    return [
        Text(f"{name} {state}: {redact(reason)}", style=COLOURS.get(state, "red"), no_wrap=True, overflow="ellipsis")
        for name, state, reason in rows[:most]
    ]


def ladder(stream: Stream, levels: int = 8) -> RenderableType:
    """The best levels of one book as bars of size, asks above bids."""
    sync = stream.sync
    title = Text(f"{stream.venue}:{stream.symbol}")
    if sync is None or not sync.live or stream.state != "LIVE":
        return Panel(Text(f"{stream.state}: {stream.reason}", style=COLOURS.get(stream.state, "")), title=title)
    bids, asks = sync.book.bids(levels), sync.book.asks(levels)
    largest = max((size for _, size in bids + asks), default=1.0)
    table = Table.grid(expand=True, padding=(0, 1))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(ratio=1)
    for side, style in ((asks[::-1], "red"), (bids, "green")):
        for at, size in side:
            table.add_row(Text(price(at), style=style), _number(size, 4), Bar(largest, 0, size, color=style))
        if style == "red":
            table.add_row(
                Text("spread", style="dim"),
                Text(_number(metrics.spread_bps(bids, asks)), style="dim"),
                Text("bps", style="dim"),
            )
    return Panel(table, title=title, subtitle=Text(f"microprice {_number(metrics.microprice(bids, asks), 4)}"))


def consumers(gateway: Gateway, width: int = 120) -> Table:
    """Every ledger, and whether it balances."""
    mode = width >= 100
    table = _table("consumer", *(["mode"] if mode else []), *LEDGER, "balanced")
    for mailbox in gateway.boxes:
        ledger = mailbox.ledger()
        good = Text("yes", style="green") if ledger.balanced else Text("NO", style="bold red")
        names = [mailbox.name, mailbox.mode.name] if mode else [mailbox.name]
        table.add_row(*names, *(f"{getattr(ledger, name):,}" for name in LEDGER), good)
    return table


def connections(gateway: Gateway) -> Table:
    """Every connection: is it there, how far away, how late is what it says?"""
    table = _table("connection", "state", "rtt ms", "delay p50", "p99 ms", "frames", "errors", "reconnects")
    for link in gateway.pump.links.values():
        session = link.session
        if session is None:
            continue
        rtt = session.watch.state.rtt_ns
        p50, p99 = link.delay.percentile(0.5), link.delay.percentile(0.99)
        table.add_row(
            link.source, Text(session.state, style=COLOURS.get(session.state, "red")),
            _number(rtt / 1e6 if rtt >= 0 else None), _number(p50 / 1e6 if p50 is not None else None),
            _number(p99 / 1e6 if p99 is not None else None), f"{link.counts.frames:,}", str(link.counts.errors), str(session.reconnects),
        )  # fmt: skip
    return table


def book_streams(gateway: Gateway) -> list[Stream]:
    """Every book of a gateway."""
    return [stream for link in gateway.pump.links.values() for stream in link.book_streams()]


def whole(gateway: Gateway, footer: str, width: int, height: int) -> Layout:
    """The demo's screen, for a window of this size."""
    streams = book_streams(gateway)
    below = 2 + len(gateway.pump.links) + 3 + len(gateway.boxes)
    last = 1 + len(footer) // max(1, width)
    room = max(4, height - below - last)
    wide = width >= LADDER_FROM and streams
    table = books(streams, room - 3, width - 48 if wide else width)
    why = doubts(gateway, max(0, room - table.row_count - 3))
    layout = Layout()
    layout.split_column(
        Layout(name="top", size=room),
        Layout(Group(connections(gateway), Text(), consumers(gateway, width)), size=below),
        Layout(Text(footer, style="dim"), size=last),
    )
    left = Layout(Group(table, *why))
    if wide:
        layout["top"].split_row(left, Layout(ladder(streams[0], max(1, (room - 3) // 2)), size=46))
    else:
        layout["top"].update(Group(table, *why))
    return layout


def print_status(tree: dict[str, Any]) -> None:
    """`truetape status` for a person."""
    console = page()
    table = _table("subscription", "channel", "state", "proof", "age s", "threshold s", "reason")
    for row in tree["subscriptions"]:
        table.add_row(
            f"{row['venue']}:{row['symbol']}", row["channel"], Text(row["state"], style=COLOURS.get(row["state"], "")), row["evidence"],
            _number(row["age_s"], 1), _number(row["threshold_s"], 1), row["reason"],
        )  # fmt: skip
    console.print(table)

    def say(text: str) -> None:
        console.print(text, soft_wrap=True)

    for row in tree["connections"]:
        rtt, frames, again = _number(row["rtt_ms"], 2), row["frames"], row["reconnects"]
        state = " ".join(filter(None, (row["state"], row["reason"])))
        say(f"{row['name']}: {state}, rtt {rtt} ms, {frames:,} frames, {again} reconnects")
    for row in tree["consumers"]:
        counts = ", ".join(f"{name} {row[name]:,}" for name in LEDGER)
        say(f"{row['name']} ({row['mode']}): {counts}; {'balanced' if row['balanced'] else 'NOT BALANCED'}")
    for row in tree["sinks"]:
        why = f" {row['last_error']}" if row["state"] == "DOWN" else ""
        say(
            f"sink {row['name']}: {row['state']}{why}, published {row['published']:,}, {row['queued']:,} wait, {row['reconnects']} reconnects"
        )
    if (trace := tree["trace"]) is not None:
        why = f"; {trace['last_error']}" if trace["last_error"] else ""
        say(f"traces to {trace['endpoint']}: {trace['delivered']:,} of {trace['spans']:,} spans delivered{why}")
    if (tape := tree["journal"]) is not None:
        trouble = f" {tape['reason']}; {tape['missing']:,} records missing" if tape["reason"] or tape["missing"] else ""
        say(f"journal: {tape['state']}{trouble}, flushed record {tape['flushed_record']:,}")
    memory, lag = tree["memory"], tree["loop_lag_ms"]
    say(
        f"memory {memory['rss_mb']} of {memory['budget_mb']} MB, loop lag {lag} ms, cpu {tree['cpu_s']} s, up {tree['uptime_s']:,.0f} s"
    )

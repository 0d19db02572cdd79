"""What a person sees in a terminal: books, a ladder, consumers and health, drawn with rich."""

from __future__ import annotations

from typing import Any

from rich.console import Console, Group, RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from truetape.app.live import Gateway
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
}
LEVELS = 8


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def price(value: float) -> str:
    """As many digits as a person needs to tell two levels apart."""
    return f"{value:,.2f}" if value >= 100 else f"{value:.4f}" if value >= 1 else f"{value:.6f}"


def _balance(share: float | None, width: int = 11) -> Text:
    """A small gauge of imbalance: bids to the left in green, asks to the right in red."""
    if share is None:
        return Text("-")
    filled = round((share + 1) / 2 * width)
    return Text("█" * filled, style="green") + Text("█" * (width - filled), style="red")


def books(gateway: Gateway, most: int = 12) -> Table:
    """One row for each book."""
    table = Table(
        "book",
        "state",
        "proof",
        "bid",
        "ask",
        "spread",
        "bps",
        "pressure(5)",
        "imbalance(5)",
        "msgs",
        expand=True,
        padding=(0, 1),
    )
    for column in table.columns[3:8]:
        column.justify = "right"
    streams = [stream for link in gateway.pump.links.values() for stream in link.book_streams()]
    for stream in streams[:most]:
        sync = stream.sync
        assert sync is not None, "book streams have a sync"
        name, state = f"{stream.venue}:{stream.symbol}", Text(stream.state, style=COLOURS.get(stream.state, ""))
        if stream.state != "LIVE" or not sync.live:
            table.add_row(
                name, state, sync.evidence, Text(stream.reason[:60], style="dim"), *[""] * 5, f"{stream.count:,}"
            )
            continue
        bids, asks = sync.book.bids(5), sync.book.asks(5)
        table.add_row(
            name, state, sync.evidence, price(bids[0][0]) if bids else "-", price(asks[0][0]) if asks else "-",
            _number(metrics.spread(bids, asks), 4), _number(metrics.spread_bps(bids, asks)), _number(metrics.pressure(bids, asks, 5)),
            _balance(metrics.imbalance(bids, asks, 5)), f"{stream.count:,}",
        )  # fmt: skip
    if len(streams) > most:
        table.caption = f"and {len(streams) - most} more"
    return table


def ladder(stream: Stream, levels: int = LEVELS) -> RenderableType:
    """The best levels of one book as bars of size, asks above bids."""
    sync = stream.sync
    title = f"{stream.venue}:{stream.symbol}"
    if sync is None or not sync.live or stream.state != "LIVE":
        return Panel(Text(f"{stream.state}: {stream.reason}", style=COLOURS.get(stream.state, "")), title=title)
    bids, asks = sync.book.bids(levels), sync.book.asks(levels)
    largest = max((size for _, size in bids + asks), default=1.0)
    table = Table.grid(expand=True, padding=(0, 1))
    for justify in ("right", "right", "left"):
        table.add_column(justify=justify)
    for side, style in ((asks[::-1], "red"), (bids, "green")):
        for level in side:
            table.add_row(*_rung(level, largest, style))
        if style == "red":
            table.add_row("", Text(f"spread {_number(metrics.spread_bps(bids, asks))} bps", style="dim"), "")
    return Panel(table, title=title, subtitle=f"microprice {_number(metrics.microprice(bids, asks), 4)}")


def _rung(level: Level, largest: float, style: str) -> tuple[Text, Text, Text]:
    return (
        Text(price(level[0]), style=style),
        Text(f"{level[1]:.4f}"),
        Text("█" * max(1, round(level[1] / largest * 24)), style=style),
    )


def consumers(gateway: Gateway) -> Table:
    """Every ledger, and whether it balances."""
    table = Table(
        "consumer",
        "mode",
        "received",
        "delivered",
        "conflated",
        "dropped",
        "expired",
        "queued",
        "balanced",
        expand=True,
    )
    for box in gateway.boxes:
        ledger = box.ledger()
        cells = [
            f"{n:,}"
            for n in (
                ledger.received,
                ledger.delivered,
                ledger.conflated,
                ledger.dropped,
                ledger.expired,
                ledger.queued,
            )
        ]
        table.add_row(
            box.name,
            box.mode.name,
            *cells,
            Text("yes", style="green") if ledger.balanced else Text("NO", style="bold red"),
        )
    return table


def connections(gateway: Gateway) -> Table:
    """Every connection: is it there, how far away, how late is what it says?"""
    table = Table(
        "connection", "state", "rtt ms", "delay p50 ms", "p99 ms", "frames", "errors", "reconnects", expand=True
    )
    for link in gateway.pump.links.values():
        session = link.session
        if session is None:
            continue
        p50, p99 = link.delay.percentile(0.5), link.delay.percentile(0.99)
        style = "green" if session.state == "OPEN" else "red"
        table.add_row(
            link.source, Text(session.state, style=style), _number(session.rtt_ns / 1e6 if session.rtt_ns >= 0 else None, 3),
            _number(p50 / 1e6 if p50 is not None else None, 3), _number(p99 / 1e6 if p99 is not None else None, 3),
            f"{link.counts.frames:,}", str(link.counts.errors), str(session.reconnects),
        )  # fmt: skip
    return table


def whole(gateway: Gateway, footer: str) -> Layout:
    """The demo's screen."""
    streams = [stream for link in gateway.pump.links.values() for stream in link.book_streams()]
    layout = Layout()
    layout.split_column(
        Layout(name="top", ratio=3),
        Layout(Group(connections(gateway), consumers(gateway)), name="middle", ratio=2),
        Layout(Text(footer), size=2),
    )
    layout["top"].split_row(
        Layout(books(gateway), ratio=3), Layout(ladder(streams[0]) if streams else Text("no book"), ratio=1)
    )
    return layout


def print_status(tree: dict[str, Any]) -> None:
    """`truetape status` for a person."""
    console = Console()
    table = Table("subscription", "channel", "state", "evidence", "age s", "threshold s", "reason")
    for row in tree["subscriptions"]:
        style = COLOURS.get(row["state"], "")
        table.add_row(
            f"{row['venue']}:{row['symbol']}", row["channel"], Text(row["state"], style=style), row["evidence"],
            _number(row["age_s"], 1), _number(row["threshold_s"], 1), row["reason"],
        )  # fmt: skip
    console.print(table)
    for row in tree["connections"]:
        rtt, frames, again = _number(row["rtt_ms"], 2), row["frames"], row["reconnects"]
        console.print(
            f"{row['name']}: {row['state']} {row['reason']} rtt {rtt} ms, {frames:,} frames, {again} reconnects"
        )
    for row in tree["consumers"]:
        counts = ", ".join(
            f"{name} {row[name]:,}" for name in ("received", "delivered", "conflated", "dropped", "expired", "queued")
        )
        console.print(f"{row['name']} ({row['mode']}): {counts}; balanced {row['balanced']}")
    if tree["journal"]:
        console.print(
            f"journal: {tree['journal']['state']} {tree['journal']['reason']}, flushed record {tree['journal']['flushed_record']:,}"
        )
    console.print(f"memory {tree['memory']['rss_mb']} of {tree['memory']['budget_mb']} MB, cpu {tree['cpu_s']} s")

"""What `truetape top` draws: health of every subscription, one book, connections, clients, events. 80 columns and 24 lines are enough.

Pure: a `View` in, something for rich out. Next door: `top.py` asks and listens to keys.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

from msgspec import Struct, field
from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.table import Table
from rich.text import Text

from truetape.app.cli.screen import COLOURS, places, price
from truetape.core.book import metrics
from truetape.model.event import Level

SIGNS = {
    "LIVE": "•", "QUIET": "–", "SYNCING": "…", "RESYNC": "R", "GAP": "G", "STALE": "!", "SUSPECT": "?", "CLOSED": "×",
}  # fmt: skip
"""As on the page: colour is never the only cue."""
SINKS = 2
"""Rows of sinks at most."""
BAR = 12
"""Columns of the largest level's bar."""


class View(Struct):
    """All that is shown. `tree` is what `truetape status --json` prints, `book` what the control socket says of one."""

    tree: dict[str, Any] = {}
    book: dict[str, Any] = {}
    clients: list[dict[str, Any]] = []
    at: int = 0
    trouble: str = ""
    worst_first: bool = False
    events: deque[tuple[str, str, str]] = field(default_factory=lambda: deque(maxlen=200))

    def rows(self) -> list[dict[str, Any]]:
        """Subscriptions as they are listed."""
        rows: list[dict[str, Any]] = self.tree.get("subscriptions", [])
        return sorted(rows, key=lambda row: row["state"] in ("LIVE", "QUIET")) if self.worst_first else rows

    def chosen(self) -> dict[str, Any] | None:
        """The row under the cursor."""
        rows = self.rows()
        return rows[min(self.at, len(rows) - 1)] if rows else None


def _sign(state: str) -> Text:
    return Text(SIGNS.get(state, "?"), style=f"bold {COLOURS.get(state, '')}")


def frame(view: View, width: int, height: int) -> RenderableType:
    """The screen for a window of this size."""
    links, clients = view.tree.get("connections", []), view.clients or view.tree.get("consumers", [])
    sinks = view.tree.get("sinks", [])
    below = 1 + min(3, len(links)) + 1 + max(1, min(3, len(clients))) + (1 + min(SINKS, len(sinks)) if sinks else 0)
    strip = min(3, -(-len(view.rows()) // max(1, width - 2)))
    news = 4 if height >= (30 if sinks else 24) else 2
    room = max(5, height - 1 - strip - below - news - 1)
    tables = Group(_links(links, width), _clients(clients, width), *_sinks(sinks, width))
    layout = Layout()
    middle = Layout(name="middle", size=room)
    layout.split_column(
        Layout(_head(view, width), size=1), Layout(_strip(view, width, strip), size=max(1, strip)), middle,
        Layout(tables, size=below), Layout(_events(view, news), size=news),
        Layout(Text("↑↓ choose  n next trouble  w worst first  q quit", style="dim"), size=1),
    )  # fmt: skip
    side = min(44, width // 2)
    middle.split_row(Layout(_list(view, room, width - side)), Layout(_ladder(view, room, side), size=side))
    return layout


def _head(view: View, width: int) -> Text:
    tree = view.tree
    if view.trouble:
        return Text(f"not connected: {view.trouble}", style="bold red", no_wrap=True, overflow="ellipsis")
    if not tree:
        return Text("waiting for the gateway …", style="dim")
    counts = Counter(row["state"] for row in view.rows())
    text = Text("truetape ", style="bold", no_wrap=True, overflow="ellipsis")
    for state, count in counts.most_common():
        text.append(f"{SIGNS.get(state, '?')} {state} {count}  ", style=COLOURS.get(state, ""))
    memory = tree["memory"]
    tail = f"{memory['rss_mb']:.0f}/{memory['budget_mb']} MB  lag {tree['loop_lag_ms']:.0f} ms  up {tree['uptime_s']:,.0f} s"
    return text.append(tail if len(text) + len(tail) <= width else tail.partition("  up")[0], style="dim")


def _strip(view: View, width: int, lines: int) -> Text:
    """One sign for each subscription, in the order of the list; what has no room is said by the counts above."""
    text = Text(no_wrap=False)
    for row in view.rows()[: lines * (width - 2)]:
        text.append_text(_sign(row["state"]))
    return text


def _list(view: View, room: int, width: int) -> Table:
    rows = view.rows()
    at = min(view.at, max(0, len(rows) - 1))
    first = max(0, min(at - room // 2, len(rows) - room))
    table = Table.grid(padding=(0, 1))
    table.add_column(width=1)
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=max(10, width - 24))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    for index, row in enumerate(rows[first : first + room], first):
        age = row["age_s"]
        table.add_row(
            _sign(row["state"]), f"{row['venue']}:{row['symbol']}", row["channel"], "-" if age is None else f"{age:.1f} s",
            style="reverse" if index == at else "",
        )  # fmt: skip
    return table


def _ladder(view: View, room: int, width: int) -> RenderableType:
    row, book = view.chosen(), view.book
    if row is None:
        return Text("no subscription", style="dim")
    name, state = f"{row['venue']}:{row['symbol']}", row["state"]
    head = Text(name, style="bold", no_wrap=True, overflow="ellipsis").append(
        f"  {state} ", style=COLOURS.get(state, "")
    )
    head.append(f"({row['evidence']})", style="dim")
    why = [Text(row["reason"], no_wrap=True, overflow="ellipsis")] if row["reason"] else []
    bids, asks = ([(p, s) for p, s in book.get(side, [])] for side in ("bids", "asks"))
    if book.get("name") != name or not (bids or asks):
        return Group(head, *why, Text(book.get("error", "no book") if book.get("name") == name else "…", style="dim"))
    each = max(1, (room - 3 - len(why)) // 2)
    grid = Table.grid(padding=(0, 1))
    for justify in ("right", "right", "left"):
        grid.add_column(justify=justify, no_wrap=True)
    pale = book["state"] not in ("LIVE", "QUIET")
    largest = max([size for _, size in [*bids[:each], *asks[:each]]])
    _side(grid, asks[:each][::-1], "dim" if pale else "red", largest)
    bps, micro, share = metrics.spread_bps(bids, asks), metrics.microprice(bids, asks), metrics.imbalance(bids, asks, 5)
    if bps is not None and micro is not None and share is not None:
        grid.add_row(
            Text(f"{micro:,.{places(micro) + 1}f}", style="dim"),
            Text(f"{bps:.2f} bps", style="dim"),
            Text(f"{share:+.2f}", style="dim"),
        )
    _side(grid, bids[:each], "dim" if pale else "green", largest)
    return Group(head, *why, grid)


def _side(grid: Table, levels: list[Level], style: str, largest: float) -> None:
    for at, size in levels:
        bar = "█" * max(1, round(size / largest * BAR))
        grid.add_row(
            Text(price(at), style=style), f"{size:,.4f}" if size < 1000 else f"{size:,.0f}", Text(bar, style=style)
        )


def _links(links: list[dict[str, Any]], width: int) -> Table:
    table = _table("connection", "state", "rtt ms", "delay p50", "p99", "again", *(["frames"] if width >= 100 else []))
    for row in links[:3]:
        cells = [row["rtt_ms"], row["delay_ms_p50"], row["delay_ms_p99"]]
        shown = ["-" if cell is None else f"{cell:.1f}" for cell in cells]
        more = [f"{row['frames']:,}"] if width >= 100 else []
        state = Text(row["state"], style=COLOURS.get(row["state"], "red"))
        table.add_row(_more(row["name"], links, 3, table.row_count), state, *shown, str(row["reconnects"]), *more)
    return table


def _clients(rows: list[dict[str, Any]], width: int) -> Table:
    """Consumers in process and downstream: who of them lost something comes first."""
    table = _table("client", "received", "delivered", "merged", "lost", *(["waiting"] if width >= 70 else []))
    ordered = sorted(rows, key=lambda row: -(row["dropped"] + row["expired"]))
    for row in ordered[:3]:
        lost = row["dropped"] + row["expired"]
        more = [f"{row['queued']:,}"] if width >= 70 else []
        name = _more(row["name"], rows, 3, table.row_count)
        table.add_row(
            name,
            f"{row['received']:,}",
            f"{row['delivered']:,}",
            f"{row['conflated']:,}",
            Text(f"{lost:,}", style="red" if lost else ""),
            *more,
        )
    if not rows:
        table.add_row(Text("nobody", style="dim"), *[""] * (len(table.columns) - 1))
    return table


def _sinks(rows: list[dict[str, Any]], width: int) -> list[Table]:
    """Buses: those that take nothing come first. No table where there is none."""
    if not rows:
        return []
    table = _table(
        "sink", "state", "published", "merged", "lost", "waiting", *(["kB", "again"] if width >= 100 else [])
    )
    ordered = sorted(rows, key=lambda row: row["state"] == "UP")
    for row in ordered[:SINKS]:
        ledger = row["ledger"]
        lost = ledger["dropped"] + ledger["expired"] + row["expired"] + row["refused"] + row["abandoned"]
        more = [f"{row['queue_bytes'] / 1000:,.0f}", f"{row['reconnects']:,}"] if width >= 100 else []
        table.add_row(
            _more(row["name"], rows, SINKS, table.row_count),
            Text(row["state"], style="green" if row["state"] == "UP" else "red"),
            f"{row['published']:,}",
            f"{ledger['conflated']:,}",
            Text(f"{lost:,}", style="red" if lost else ""),
            f"{row['queued']:,}",
            *more,
        )
    return [table]


def _more(name: str, rows: list[Any], most: int, index: int) -> str:
    """A name, and in the last row that has room how many more there are."""
    return f"{name} (and {len(rows) - most} more)" if index == most - 1 and len(rows) > most else name


def _table(*heads: str) -> Table:
    table = Table(box=None, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), expand=True, header_style="dim")
    for index, head in enumerate(heads):
        table.add_column(
            head,
            justify="left" if index == 0 or head == "state" else "right",
            no_wrap=True,
            ratio=2 if index == 0 else 1,
        )
    return table


def _events(view: View, most: int) -> Group:
    rows = list(view.events)[:most]
    lines = [
        Text(f"{at} {SIGNS.get(state, '·')} {words}", style=COLOURS.get(state, ""), no_wrap=True, overflow="ellipsis")
        for at, state, words in rows
    ]
    return Group(*(lines or [Text("nothing happened yet", style="dim")]))

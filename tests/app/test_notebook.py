"""What a notebook shows: true, plain, and only text of what a venue or a user named, however it was meant."""

from __future__ import annotations

import os
from html.parser import HTMLParser
from pathlib import Path

import truetape
from tests.app.conftest import Simulator
from tests.app.test_client import WITHIN, address, served
from tests.app.test_view import stream
from truetape.app.notebook import ROWS, StatusTree, table
from truetape.app.secrets import Secret
from truetape.app.view import BookView
from truetape.model.event import KINDS, Bar, Book, Gap, Lagged, Market, Quote, Status, Ticker, Trade

HOSTILE = [
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</td></table><h1>x", "&lt;b&gt;", "{{7*7}}", "javascript:x", "' onclick='x",
    "\x00\u202e\ud7ff<", "<!--", "]]>", "x" * 10_000 + "<b>",
]  # fmt: skip
PLAIN = {"table", "caption", "thead", "tbody", "tr", "th", "td", "p"}
STYLES = {"text-align:right", "text-align:left"}


class Seen(HTMLParser):
    """The cells of a table; anything that is not plain is an error."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.cells: list[str] = []
        self.rows = 0
        self.feed(html)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in PLAIN, tag
        assert all(key == "style" and value in STYLES for key, value in attrs), attrs
        self.open.append(tag)
        self.rows += tag == "tr"
        if tag in ("td", "th", "caption", "p"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        assert self.open[-1] in ("td", "th", "caption", "p"), f"{data!r} outside a cell"
        self.cells[-1] += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data!r}")

    handle_decl = handle_comment


def all_kinds(name: str) -> list[Market]:
    """One event of each kind, in which everything that may be named is named so."""
    here = (name, name, name)
    return [
        Trade(*here, 1, 2, 67000.53, 0.00001, name, name),
        Quote(*here, 1, 2, 1.5, 1.0, 1.6, 1.0),
        Book(*here, 1, 2, [(1.5, 2.0)], [], True),
        Book(*here, 1, 2, [(1.5, 2.0)], []),
        Bar(*here, 1, 2, name, 0, 1.0, 2.0, 0.5, 1.5, 9.0),
        Ticker(*here, 1, 2, last=1.0),
        Gap(*here, 2, name, 0, 1, name),
        Lagged(name, name, name, 7, name),
        Status(*here, 2, name, name, name),
        Trade(*here, 1, 1 << 90, float("nan"), float("inf")),
    ]  # fmt: skip


def test_hostile_names_are_text_everywhere() -> None:
    for name in HOSTILE:
        events = truetape.Events(all_kinds(name))
        assert {KINDS[type(event)] for event in events} == set(KINDS.values())
        assert name[:20] in "".join(Seen(events._repr_html_()).cells) or "\x00" in name
        one = stream()
        one.venue = one.symbol = name
        one.enter("GAP", name, 1)
        Seen(BookView(one)._repr_html_())
        row = {
            "venue": name,
            "symbol": name,
            "channel": name,
            "state": name,
            "evidence": name,
            "reason": name,
            "age_s": None,
        }
        tree = StatusTree(version=name, uptime_s=1.0, subscriptions=[row], connections=[{"state": name}])
        Seen(tree._repr_html_())
        Seen(table(name, [name], [[name]]))


def test_prices_keep_their_digits() -> None:
    cells = "".join(Seen(truetape.Events(all_kinds("x"))._repr_html_()).cells)
    assert "0.00001 at 67000.53" in cells


def test_events_show_the_last_of_many_and_how_many_of_each_kind() -> None:
    trades = [Trade("kraken", "BTC-USD", "BTC/USD", 0, 10**18 + n, float(n), 1.0) for n in range(1000)]
    seen = Seen(truetape.Events([*trades, Lagged("kraken", "BTC-USD", "trade", 3)])._repr_html_())
    assert seen.cells[0] == "1,001 events: 1,000 trade, 1 lagged"
    assert seen.rows == ROWS + 1
    assert "trade: 3 missing, dropped" in seen.cells
    assert "1 at 999" in seen.cells
    assert Seen(truetape.Events()._repr_html_()).cells[0] == "0 events"


def test_a_book_that_cannot_be_believed_shows_no_price_unless_that_was_asked_for() -> None:
    one = stream()
    assert "99" in Seen(BookView(one)._repr_html_()).cells
    one.enter("STALE", "nothing for 30 s", 1)
    cells = Seen(BookView(one)._repr_html_()).cells
    assert "STALE" in cells[0]
    assert "99" not in cells
    assert "99" in Seen(BookView(one, stale_ok=True)._repr_html_()).cells


def test_a_secret_that_a_venue_repeats_is_not_shown() -> None:
    os.environ["TT_NOTEBOOK_CANARY"] = "canary-5d1e"
    Secret("env:TT_NOTEBOOK_CANARY").reveal()
    status = Status("kraken", "k", "", 1, "", "CLOSED", "bad key canary-5d1e")
    assert "canary" not in truetape.Events([status])._repr_html_()


async def test_the_status_shows_first_what_is_not_well(kraken: Simulator) -> None:
    closed = truetape.open({"feeds": [kraken.feed()]})
    assert "SYNCING" in Seen(closed._repr_html_()).cells
    async with truetape.open({"feeds": [kraken.feed()]}) as gateway:
        assert await gateway.ready()
        cells = Seen(gateway._repr_html_()).cells
        assert "1 of 1 connections open" in cells[0]
        assert "LIVE" in cells
        gateway.stream(kraken.ids()[0]).enter("STALE", "nothing for 9 s", 1)
        cells = Seen(gateway.status()._repr_html_()).cells
        assert cells.index("STALE") < cells.index("LIVE")


async def test_a_client_shows_its_subscriptions_and_what_became_of_their_events(tmp_path: Path) -> None:
    async with served(tmp_path) as (_, gateway):
        client = truetape.client(address(gateway, "unix"), keep=100)
        assert "not open" in Seen(client._repr_html_()).cells[0]
        async with client:
            sub = client.subscribe("kraken:*", ["trade"], name="<i>mine</i>", timeout_s=WITHIN)
            await sub.take()
            for html in (client._repr_html_(), sub._repr_html_()):
                cells = Seen(html).cells
                at = cells.index("<i>mine</i>")
                assert cells[at + 1] == "live"
                assert int(cells[at + 3].replace(",", "")) >= int(cells[at + 4].replace(",", "")) > 0
            assert "trade" in Seen(sub._repr_html_()).cells

"""What a program reads of a book: never yesterday's price in silence."""

from collections.abc import Callable
from typing import Any

import pytest

from truetape.app.view import BookView, NotLive
from truetape.core.book import metrics
from truetape.core.book.whole import make
from truetape.core.feed.health import Stream
from truetape.core.feed.venue import Rule, Want
from truetape.io.clock import now as clock
from truetape.model.event import Book

T0 = 1_700_000_000_000_000_000
SECOND = 1_000_000_000
BIDS = [(99.0, 3.0), (98.0, 1.0), (97.0, 2.0)]
ASKS = [(101.0, 1.0), (102.0, 7.0)]
NUMBERED = Rule(numbers="step", trusted_depth=20)


def stream(rule: Rule = NUMBERED, recv: int = T0, depth: int = 0) -> Stream:
    """A book that is LIVE, with what the pump would have told it."""
    one = Stream("kraken", "k-1", Want("book", "BTC/USD", "BTC-USD"), make(rule), T0)
    sync = one.sync
    assert sync is not None
    assert sync.feed(Book("kraken", "BTC-USD", "BTC/USD", recv, recv, BIDS[:], ASKS[:], True, seq=7, depth=depth))
    one.enter("LIVE", "", T0)
    return one


READINGS: list[Callable[[BookView], Any]] = [
    lambda view: view.bids,
    lambda view: view.asks,
    lambda view: view.top(2),
    lambda view: view.spread,
    lambda view: view.spread_bps,
    lambda view: view.mid,
    lambda view: view.microprice,
    lambda view: view.pressure(2),
    lambda view: view.imbalance(2),
]


def test_a_live_book_tells_levels_and_metrics() -> None:
    view = BookView(stream())
    assert view.bids == BIDS and view.asks == ASKS and view.top(1) == (BIDS[:1], ASKS[:1])
    assert (view.spread, view.spread_bps, view.mid) == (2.0, 200.0, 100.0)
    assert view.microprice == metrics.microprice(BIDS, ASKS)
    assert view.pressure(2) == 0.5 and view.imbalance(1) == 0.5
    assert (view.state, view.reason, view.evidence, view.since) == ("LIVE", "", "sequence", T0)
    assert repr(view) == "<book kraken:BTC-USD LIVE (sequence) (99.0, 3.0) | (101.0, 1.0)>"


@pytest.mark.parametrize("read", READINGS)
@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("STALE", "nothing for 30.2 s"),
        ("GAP", "expected seq 8, found seq 10"),
        ("SYNCING", "connection lost"),
        ("CLOSED", "unsubscribed"),
    ],
)
def test_a_book_that_is_not_live_raises_with_state_reason_and_since(
    read: Callable[[BookView], Any], state: str, reason: str
) -> None:
    one = stream()
    if state != "STALE":
        one.sync.fail(state, reason)  # type: ignore[union-attr]
    one.enter(state, reason, T0 + 5)
    with pytest.raises(NotLive) as caught:
        read(BookView(one))
    assert (caught.value.state, caught.value.reason, caught.value.since) == (state, reason, T0 + 5)
    assert str(caught.value).startswith(f"book kraken:BTC-USD: {state}: {reason}; read it with stale_ok=True")


@pytest.mark.parametrize("read", READINGS)
def test_a_broken_book_raises_even_before_its_state_was_told(read: Callable[[BookView], Any]) -> None:
    one = stream()
    one.sync.fail("GAP", "checksum")  # type: ignore[union-attr]
    with pytest.raises(NotLive):
        read(BookView(one))


@pytest.mark.parametrize("read", READINGS)
def test_stale_ok_gives_the_last_levels_knowingly(read: Callable[[BookView], Any]) -> None:
    one = stream()
    before = read(BookView(one))
    one.sync.fail("GAP", "checksum")  # type: ignore[union-attr]
    one.enter("GAP", "checksum", T0 + 5)
    view = BookView(one, stale_ok=True)
    assert read(view) == before and view.state == "GAP"


def test_a_view_follows_the_book() -> None:
    one = stream()
    view = BookView(one)
    assert one.sync is not None
    one.sync.feed(Book("kraken", "BTC-USD", "BTC/USD", T0, T0, [(99.5, 1.0)], [], seq=8))
    assert view.bids[0] == (99.5, 1.0)
    one.sync.fail("GAP", "lost")
    with pytest.raises(NotLive):
        view.bids  # noqa: B018
    one.sync.feed(Book("kraken", "BTC-USD", "BTC/USD", T0, T0, [(50.0, 1.0)], [(60.0, 1.0)], True, seq=20))
    assert view.mid == 55.0


def test_what_a_reader_does_to_its_levels_does_not_touch_the_book() -> None:
    view = BookView(stream())
    view.bids.clear()
    view.top(2)[1].append((0.0, 0.0))
    assert view.bids == BIDS and view.asks == ASKS


def test_an_empty_side_has_no_price_and_no_pressure() -> None:
    one = Stream("kraken", "k-1", Want("book", "BTC/USD", "BTC-USD"), make(NUMBERED), T0)
    assert one.sync is not None
    one.sync.feed(Book("kraken", "BTC-USD", "BTC/USD", T0, T0, BIDS[:], [], True, seq=7))
    one.enter("LIVE", "", T0)
    view = BookView(one)
    assert [view.spread, view.spread_bps, view.mid, view.microprice, view.pressure(5), view.imbalance(5)] == [None] * 6
    assert view.asks == [] and repr(view).endswith("(99.0, 3.0) | None>")


def test_verified_age_counts_from_the_last_proof() -> None:
    assert BookView(stream(Rule())).verified_age_s is None, "nothing numbers or checks it"
    age = BookView(stream(recv=clock() - 5 * SECOND)).verified_age_s
    assert age is not None and 5 <= age < 60
    one = stream(recv=clock() - 5 * SECOND)
    one.sync.fail("GAP", "lost")  # type: ignore[union-attr]
    after = BookView(one, stale_ok=True).verified_age_s
    assert after is not None and after >= 5, "a broken book was last proved when it was whole"


@pytest.mark.parametrize(("rule", "depth", "trusted"), [(NUMBERED, 0, 20), (NUMBERED, 50, 50), (Rule(), 0, 0)])
def test_trusted_depth_is_what_the_venue_maintains(rule: Rule, depth: int, trusted: int) -> None:
    assert BookView(stream(rule, depth=depth)).trusted_depth == trusted


def test_a_stream_that_is_no_book_has_no_view() -> None:
    trades = Stream("kraken", "k-1", Want("trade", "BTC/USD", "BTC-USD"), None, T0)
    with pytest.raises(TypeError, match="kraken:BTC-USD trade is no book"):
        BookView(trades)


def test_a_notebook_shows_a_ladder_and_what_it_may_be_worth() -> None:
    one = stream()
    html = BookView(one)._repr_html_()
    assert html.count("<tr>") == 6 and "kraken:BTC-USD LIVE" in html
    one.enter("GAP", "<script>", T0)
    html = BookView(one)._repr_html_()
    assert "GAP" in html and "<script>" not in html
    assert repr(BookView(one)) == "<book kraken:BTC-USD GAP: <script>>"

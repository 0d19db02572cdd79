"""Every fault of the script before the real gateway: never wrong and LIVE, and what was lost is said."""

import asyncio
from random import Random

import pytest

from conftest import ROOT
from truetape.app.cli.faults import HEADS, markdown, table
from truetape.app.dialects import dialect
from truetape.app.rehearsal import Outcome, covers, matrix, rehearse, scripts
from truetape.app.sim import VENUES, Options, Simulator, counterpart
from truetape.core.sim.faults import KNOWN, BadFault, parse
from truetape.core.sim.listing import listings
from truetape.core.sim.market import Market
from truetape.core.sim.oracle import DEPTH, Oracle
from truetape.core.sim.venue import Missed
from truetape.model.event import Gap

T0 = 1_780_000_000_000_000_000
SECOND = 1_000_000_000
UNSEEN = {"duplicate", "fragment", "unknown-field", "clock-jump", "burst-100x", "slow-drip"}
"""Faults that harm no book."""
ENDING = {"token-expired"}
"""Faults after which a person must act."""


def one_venue_each() -> list[tuple[str, str]]:
    """Every fault once, each before one of the venues where it means something, drawn by a fixed seed; `truetape faults` plays them all."""
    pairs = matrix([], [])
    random = Random(7)
    return [random.choice([pair for pair in pairs if pair[0] == name]) for name in KNOWN]


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    pairs = one_venue_each()
    print(pairs)
    return {row.fault: row for row in asyncio.run(rehearse(pairs, at_once=8))}  # more would starve each other


@pytest.mark.parametrize("fault", list(KNOWN))
def test_after_the_fault_a_book_is_true_or_says_why_it_is_not_live(fault: str, outcomes: dict[str, Outcome]) -> None:
    found = outcomes[fault]
    assert found.ok, found
    assert found.checks > 100
    if fault in UNSEEN:
        assert found.verdict in ("unharmed", "recovered") and found.lost == found.accounted
    elif fault in ENDING:
        assert found.verdict.startswith("not LIVE and says why: CLOSED")
    elif found.evidence != "none":
        assert found.detected_s is not None and found.said
        assert found.lost == found.accounted


def test_what_means_nothing_on_a_venue_is_not_rehearsed_and_cannot_be_scripted() -> None:
    pairs = matrix([], [])
    assert len(pairs) == len(set(pairs)) > 70
    for name in KNOWN:
        for venue in VENUES:
            options = Options(venue=venue, tls="x", faults=tuple(parse(scripts(name)[0])))
            if (name, venue) in pairs:
                Simulator(options)
            else:
                with pytest.raises(BadFault, match=f"{name} does not apply to {venue}"):
                    Simulator(options)


def test_the_oracle_knows_every_state_and_no_other() -> None:
    market = Market(listings(1, 1, 5), dialect("binance").native, 1, T0, history=True)
    oracle = Oracle(market, T0)
    (raw,) = market.listed
    seen = []
    for step in range(200):
        change = market.step(T0 + step * SECOND)
        oracle.follow(T0 + step * SECOND)
        bids, asks = ([(float(p), float(q)) for p, q in side] for side in market.levels(raw, DEPTH))
        seen.append((bids, asks, change.seq))
    now = T0 + 199 * SECOND
    for bids, asks, seq in seen:
        assert oracle.behind(raw, bids, asks, seq, now) is not None
        assert oracle.behind(raw, bids, asks, -1, now) is not None
        wrong = [(bids[0][0], bids[0][1] + 1), *bids[1:]]
        assert oracle.behind(raw, wrong, asks, -1, now) is None
        assert oracle.behind(raw, bids, asks, seq + 100_000, now) is None, "never at that number"
    assert oracle.behind(raw, *seen[-1], now) == 0
    first = next(row for row in seen if row[:2] != seen[0][:2])
    assert oracle.behind(raw, *seen[0], now) == now - (T0 + seen.index(first) * SECOND)


def test_a_gap_covers_by_number_else_by_time() -> None:
    gap = Gap("v", "S", "RAW", T0, "book", T0, T0 + SECOND, "gap", 10, 20)
    assert covers(gap, Missed(T0 - 60 * SECOND, "RAW", 11), ended=True)
    assert not covers(gap, Missed(T0 - 60 * SECOND, "RAW", 10), ended=True)
    assert covers(gap, Missed(T0 + SECOND, "RAW", 99), ended=True)
    assert not covers(gap, Missed(T0 + 2 * SECOND, "RAW", 99), ended=True)
    assert covers(gap, Missed(T0 + 2 * SECOND, "RAW", 99), ended=False)
    assert not covers(gap, Missed(T0, "OTHER", 11), ended=True)


def test_the_page_tells_of_every_fault_and_every_row_is_as_it_should_be() -> None:
    page = (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
    rows = {tuple(line.split(" | ")[:2]) for line in page.splitlines() if line.startswith("| ")}
    assert {(f"| {fault}", venue) for fault, venue in matrix([], [])} <= rows
    assert " | ".join(HEADS) in page and "WRONG" not in page and "WITHOUT A GAP" not in page


def test_the_table_has_a_row_for_each() -> None:
    row = Outcome(
        fault="reorder", venue="kraken", script=("reorder@3s",), detected_s=0.031, said="GAP: x", recovered_s=None, lost=1,
        accounted=1, behind_s=0.0, checks=9, verdict="recovered", ok=True, evidence="checksum",
    )  # fmt: skip
    assert "reorder  kraken  0.03" in table([row])
    assert "| reorder | kraken | 0.03 | — | 1 | 1 | 0.00 | recovered |" in markdown([row])
    assert counterpart("kraken").wrong.summed

"""Every message that a LIVE book lost is told in a `Gap`, and no gap is told where nothing was lost: on venues that number their books."""

from __future__ import annotations

import time

import pytest

from recall import VENUES, Faults, Symbol, Tally, World, told

SEED = 1
LOST = Faults(drop=0.002)
STORM = Faults(drop=0.0015, burst=0.000_03, repeat=0.002, old=0.002, reset=0.0003, cut=0.000_05)
each_venue = pytest.mark.parametrize("venue", VENUES)


def all_found(tally: Tally) -> None:
    assert (tally.missed, tally.false, tally.wrong, tally.late) == (0, 0, 0, 0), told(tally)
    assert tally.found == tally.dropped_live > 0, told(tally)
    assert tally.gaps > 0


def nothing_told(tally: Tally) -> None:
    assert (tally.gaps, tally.false, tally.missed, tally.wrong) == (0, 0, 0, 0), told(tally)


@each_venue
def test_what_is_lost_is_told(venue: str) -> None:
    all_found(World(venue, SEED, LOST).run(10_000))


@each_venue
def test_bursts_repeats_resets_and_cuts_hide_nothing(venue: str) -> None:
    tally = World(venue, SEED, STORM).run(10_000)
    all_found(tally)
    assert venue == "coinbase" or tally.repeats > 0


@pytest.mark.parametrize("venue", ["bybit", "okx"])
def test_what_is_lost_just_before_the_venue_counts_anew_is_told(venue: str) -> None:
    """Half of the resets come right after a lost message, and a whole book that nobody asked for would hide it."""
    tally = World(venue, SEED, Faults(reset=0.01)).run(10_000)
    all_found(tally)
    assert tally.resets > 50


@each_venue
def test_a_clean_stream_tells_no_gap(venue: str) -> None:
    nothing_told(World(venue, SEED, Faults()).run(40_000))


def test_the_oracle_sees_a_pump_that_tells_nothing() -> None:
    """A gap that is swallowed must be missed here, or these tests prove nothing."""

    class Deaf(World):
        def judge(self, s: Symbol) -> None:
            self.pump.gaps.clear()
            super().judge(s)

    tally = Deaf("bybit", SEED, LOST).run(5_000)
    assert tally.missed == tally.dropped_live > 0


def counted(faults: Faults, messages: int) -> tuple[int, int, int, int, int]:
    """Every venue's share of so many messages; progress and each venue's figures on stderr."""
    sums = [0, 0, 0, 0, 0]
    for venue in VENUES:
        began = time.perf_counter()
        tally = World(venue, SEED, faults).run(messages // len(VENUES))
        row = (tally.messages, tally.dropped, tally.dropped_live, tally.found, tally.missed + tally.false + tally.wrong)
        sums = [a + b for a, b in zip(sums, row, strict=True)]
        print(
            f"{venue}: {tally.messages:,} messages, {tally.dropped:,} lost ({tally.dropped_live:,} of LIVE books), {tally.found:,} told,"
            f" {tally.missed} missed, {tally.false} false, {tally.gaps:,} gaps, {time.perf_counter() - began:.0f} s",
            flush=True,
        )
        if faults.drop:
            all_found(tally)
        else:
            nothing_told(tally)
    return (sums[0], sums[1], sums[2], sums[3], sums[4])


@pytest.mark.soak
def test_a_million_messages_with_two_in_a_thousand_lost(capfd: pytest.CaptureFixture[str]) -> None:
    with capfd.disabled():
        messages, _, live, found, wrong = counted(LOST, 1_000_000)
        counted(STORM, 1_000_000)
    assert messages >= 1_000_000
    assert (found, wrong) == (live, 0)


@pytest.mark.soak
def test_ten_million_clean_messages(capfd: pytest.CaptureFixture[str]) -> None:
    with capfd.disabled():
        messages, lost, _, _, wrong = counted(Faults(), 10_000_000)
    assert messages >= 10_000_000
    assert (lost, wrong) == (0, 0)

"""Delays are counted, not kept: percentiles against a sorted list, and clocks that run behind."""

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truetape.core.feed.delay import NOTED_MAX, STEP, Histogram, explain

DELAYS = st.lists(
    st.one_of(st.integers(-1000, 100), st.integers(0, 10**6), st.integers(0, 10**13)), min_size=1, max_size=300
)
SHARES = st.sampled_from([0.0, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0])


def exact(delays: list[int], share: float) -> int:
    """The least of the delays that this share of them does not exceed, 0 where that is below zero."""
    return max(0, sorted(delays)[max(0, ceil(share * len(delays)) - 1)])


@given(DELAYS, SHARES)
def test_percentiles_are_never_below_the_truth_and_an_eighth_above_at_most(delays: list[int], share: float) -> None:
    histogram = Histogram()
    for delay in delays:
        histogram.add(delay)
    found, truth = histogram.percentile(share), exact(delays, share)
    assert found is not None and (share == 0 or truth <= found) and found <= truth * 1.125 + 1
    assert found <= max(0, *delays), "and never beyond the largest"


@given(DELAYS, SHARES)
def test_noted_delays_are_counted_at_the_next_fold_within_their_step(delays: list[int], share: float) -> None:
    histogram = Histogram()
    for delay in delays:
        histogram.note(delay)
    assert histogram.total == 0
    found, truth = histogram.percentile(share), exact(delays, share)
    assert histogram.total == len(delays) and histogram.largest == max(0, *delays)
    step = 1 << STEP
    assert found is not None and (share == 0 or truth - step <= found) and found <= (truth + step) * 1.125 + 1


@given(DELAYS, st.integers(0, 300))
def test_noting_and_adding_may_be_mixed(delays: list[int], cut: int) -> None:
    one, two = Histogram(), Histogram()
    for delay in delays[:cut]:
        one.note(delay)
    one.fold()
    for delay in delays[cut:]:
        one.note(delay)
    for delay in delays:
        two.note(delay)
    one.fold()
    two.fold()
    assert (one.buckets, one.total, one.negative, one.largest) == (two.buckets, two.total, two.negative, two.largest)
    assert sum(one.buckets.values()) + one.negative == one.total


@given(DELAYS)
def test_what_is_below_zero_is_counted_apart(delays: list[int]) -> None:
    added, noted = Histogram(), Histogram()
    for delay in delays:
        added.add(delay)
        noted.note(delay)
    noted.fold()
    assert added.negative == noted.negative == sum(delay < 0 for delay in delays)


def test_notes_that_nobody_folds_are_bounded() -> None:
    histogram = Histogram()
    for _ in range(NOTED_MAX + 5):
        histogram.note(1_000_000)
    histogram.fold()
    assert histogram.total == NOTED_MAX


def test_nothing_counted_tells_nothing() -> None:
    histogram = Histogram()
    histogram.fold()
    assert histogram.percentile(0.5) is None and histogram.total == 0


def test_a_clock_that_runs_behind_gives_zero_not_a_negative_delay() -> None:
    histogram = Histogram()
    for delay in (-5, -4, -3, 1_000_000):
        histogram.add(delay)
    assert histogram.percentile(0.5) == 0 and histogram.negative == 3
    assert histogram.percentile(1.0) == 1_000_000


def test_equal_delays_may_be_added_together() -> None:
    one, two = Histogram(), Histogram()
    for _ in range(7):
        one.add(123_456)
    two.add(123_456, 7)
    assert (one.buckets, one.total) == (two.buckets, two.total)


@pytest.mark.parametrize("ns", [0, 1, 7, 8, 9, 15, 16, 17, 1023, 1024, 1 << 40, (1 << 40) - 1])
def test_every_delay_lies_below_the_edge_of_its_bucket(ns: int) -> None:
    histogram = Histogram()
    histogram.add(ns)
    ((index, count),) = histogram.buckets.items()
    assert count == 1 and ns < Histogram.edge(index) <= ns * 1.125 + 1


@given(DELAYS)
def test_the_smallest_is_how_far_the_senders_clock_runs_ahead(delays: list[int]) -> None:
    noted, added = Histogram(), Histogram()
    for delay in delays:
        noted.note(delay)
        added.add(delay)
    noted.fold()
    assert noted.smallest == added.smallest == min(0, *delays)


@pytest.mark.parametrize(
    ("delays", "offset", "said"),
    [
        ([5, 10**6], None, ""),
        ([5, -3_000_000], None, "1 of 2 events were stamped later than they came: the venue's clock is ahead of ours, at least 3.0 ms"),
        ([-1_000_000] * 3, 4_000_000, "3 of 3 events were stamped later than they came: the venue's clock is ahead of ours, 4.0 ms by "
            "its pings"),
        ([-9_000_000], 4_000_000, "1 of 1 events were stamped later than they came: the venue's clock is ahead of ours, 4.0 ms by its pings, "
            "and once 9.0 ms by its events"),
    ],
)  # fmt: skip
def test_negative_delays_are_explained(delays: list[int], offset: int | None, said: str) -> None:
    histogram = Histogram()
    for delay in delays:
        histogram.note(delay)
    assert explain(histogram, offset) == said

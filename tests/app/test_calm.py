"""The garbage collector while a gateway runs: no look at what lives, cycles found in the end, every pause timed, all given back."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from truetape.app import calm


class Knot:
    """A cycle that nobody holds."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def running() -> Iterator[calm.Calm]:
    calm.begin()
    try:
        yield calm.Calm()
    finally:
        calm.end()


def test_a_beat_freezes_what_lives_and_pauses_nothing(running: calm.Calm) -> None:
    running.beat(0.9)
    collected = sum(calm.pauses.collections)
    kept = [[n] for n in range(500)]
    frozen = gc.get_freeze_count()
    running.beat(0.9)
    assert gc.get_freeze_count() >= frozen + len(kept)
    assert sum(calm.pauses.collections) == collected


def test_what_is_on_its_way_is_not_looked_at(running: calm.Calm) -> None:
    running.beat(0.9)
    collected = sum(calm.pauses.collections)
    for _ in range(10):
        waiting = [[n] for n in range(3 * calm.GATHERED)]
        running.beat(0.9)
        waiting.clear()
        running.beat(0.9)
    assert sum(calm.pauses.collections) == collected


def test_many_containers_that_stay_are_looked_at(running: calm.Calm) -> None:
    running.beat(0.9)
    knots = [weakref.ref(Knot()) for _ in range(2 * calm.GATHERED)]
    for _ in range(calm.GATHERED_BEATS):
        running.beat(0.9)
    assert all(knot() is None for knot in knots)
    assert calm.pauses.collections[0] >= 1
    assert calm.pauses.longest_ns > 0


def test_a_cycle_that_was_frozen_is_found_when_the_process_is_idle_and_not_before(running: calm.Calm) -> None:
    running.beat(0.9)
    knot = weakref.ref(Knot())
    for _ in range(calm.IDLE_BEATS - 1):
        running.beat(0.0)
    assert knot() is not None
    running.beat(0.0)
    assert knot() is None
    assert calm.pauses.collections[2] == 1


def test_the_idle_look_is_not_repeated_at_once(running: calm.Calm) -> None:
    for _ in range(10 * calm.IDLE_BEATS):
        running.beat(0.0)
    assert calm.pauses.collections[2] == 1


def test_a_tight_memory_finds_frozen_cycles_too(running: calm.Calm) -> None:
    knot = weakref.ref(Knot())
    running.beat(0.9)
    calm.collect()
    assert knot() is None


def test_all_is_given_back_at_the_end() -> None:
    before = gc.get_threshold()
    calm.begin()
    calm.begin()
    assert gc.get_threshold() != before
    calm.end()
    assert gc.get_threshold() != before
    calm.end()
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0
    assert calm.pauses not in gc.callbacks

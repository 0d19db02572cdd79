"""Snapshots: one request in flight for each book, at the venue's pace, patient where it fails."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from truetape.core.feed.desk import RETRY_MAX_S, SnapshotDesk

S = 1_000_000_000
T0 = 1_700_000_000 * S


def asked(desk: SnapshotDesk, until: int, now: int = T0) -> list[tuple[float, str]]:
    """What comes due until then (seconds since T0), driven by the desk's deadlines alone."""
    found = []
    while (due := desk.deadline) is not None and due <= until:
        now = max(now, due)
        found += [((now - T0) / S, raw) for raw in desk.due(now)]
        after = desk.deadline
        assert after is None or after > now, "what is due is done: no storm"
    return found


def test_one_request_is_in_flight_for_each_book() -> None:
    desk = SnapshotDesk(5)
    for _ in range(3):
        desk.ask("A", T0)
    assert desk.due(T0) == ["A"] and desk.waiting == 1
    desk.ask("A", T0 + 1)
    assert desk.due(T0 + 1) == [] and desk.waiting == 1
    desk.answered("A")
    assert desk.waiting == 0 and desk.deadline is None


def test_requests_are_paced_and_leave_in_the_order_asked() -> None:
    desk = SnapshotDesk(4, within_s=1000)
    for number in range(10):
        desk.ask(f"S{number}", T0)
    first = [(0.0, f"S{i}") for i in range(5)]
    assert asked(desk, T0 + 60 * S) == [*first, (0.25, "S5"), (0.5, "S6"), (0.75, "S7"), (1.0, "S8"), (1.25, "S9")]


def test_the_pace_outlives_the_connection() -> None:
    desk = SnapshotDesk(2)
    for raw in "ABC":
        desk.ask(raw, T0)
    assert desk.due(T0) == ["A", "B", "C"]
    desk.clear()
    assert desk.waiting == 0 and desk.deadline is None
    desk.ask("A", T0 + 1)
    assert desk.due(T0 + 1) == [] and desk.deadline == T0 + S // 2
    assert desk.due(T0 + S // 2) == ["A"]


def test_a_failed_request_is_tried_again_after_a_doubling_wait() -> None:
    desk = SnapshotDesk(100)
    desk.ask("A", T0)
    now, waits = T0, []
    for _ in range(9):
        assert desk.due(now) == ["A"]
        desk.failed("A", now)
        due = desk.deadline
        assert due is not None and desk.due(due - 1) == []
        waits.append((due - now) / S)
        now = due
    assert waits == [1, 2, 4, 8, 16, 32, RETRY_MAX_S, RETRY_MAX_S, RETRY_MAX_S]
    desk.due(now)
    desk.answered("A")
    desk.ask("A", now)
    assert desk.due(now) == ["A"], "an answer that fits ends the patience"


def test_an_answer_that_does_not_fit_is_asked_for_again_at_once_then_patiently() -> None:
    desk = SnapshotDesk(100)
    now, waits = T0, []
    desk.ask("A", now)
    for _ in range(8):
        due = desk.deadline
        assert due is not None
        waits.append((due - now) / S)
        now = due
        assert desk.due(now) == ["A"]
        desk.returned("A")
        desk.ask("A", now)
    assert waits == [0, 0, 1, 2, 4, 8, 16, 32]


def test_a_request_that_is_never_answered_is_given_up_and_asked_for_again() -> None:
    desk = SnapshotDesk(100, within_s=10)
    desk.ask("A", T0)
    assert asked(desk, T0 + 80 * S) == [(0.0, "A"), (11.0, "A"), (33.0, "A"), (67.0, "A")]


def test_retry_after_holds_back_every_book() -> None:
    desk = SnapshotDesk(100, within_s=1000)
    for raw in "AB":
        desk.ask(raw, T0)
    assert desk.due(T0) == ["A", "B"]
    desk.failed("A", T0, retry_after_s=120.0)
    desk.ask("C", T0 + 1)
    assert asked(desk, T0 + 119 * S) == []
    assert asked(desk, T0 + 121 * S) == [(120.0, "A"), (120.01, "C")]


@pytest.mark.parametrize("asked_for", [1e308, float("inf")])
def test_no_venue_can_ask_for_more_than_a_day(asked_for: float) -> None:
    desk = SnapshotDesk(100)
    desk.ask("A", T0)
    desk.due(T0)
    desk.failed("A", T0, asked_for)
    assert desk.deadline == T0 + 86_400 * S


def test_an_answer_to_a_forgotten_request_asks_for_nothing() -> None:
    desk = SnapshotDesk(100)
    desk.ask("A", T0)
    desk.due(T0)
    desk.clear()
    desk.failed("A", T0 + S)
    assert desk.waiting == 0 and desk.deadline is None
    desk.failed("A", T0 + S, retry_after_s=60)
    desk.ask("B", T0 + S)
    assert desk.deadline == T0 + 61 * S, "but a wait that the venue asks for is a wait"


STEPS = st.lists(st.tuples(st.sampled_from("aarfbrlcs"), st.integers(0, 5), st.integers(0, 4 * S)), max_size=80)


@settings(max_examples=100)
@given(STEPS, st.sampled_from([0.5, 2.0, 10.0]), st.integers(0, 1000))
def test_the_desk_keeps_its_promises_whatever_comes(steps: list[tuple[str, int, int]], per_s: float, seed: int) -> None:
    """Never two in flight for a book, never beyond the pace, never due before its deadline; a saved desk goes on the same."""
    desk, twin, now, sent, draw = SnapshotDesk(per_s), SnapshotDesk(per_s), T0, list[int](), Random(seed)
    flying: dict[str, int] = {}
    for kind, number, wait in steps:
        now += wait
        raw = f"S{number}"
        due = desk.deadline
        ready = desk.due(now)
        assert twin.due(now) == ready
        assert not ready or (due is not None and due <= now)
        for one in ready:
            assert one not in flying or now - flying[one] >= 10 * S
            flying[one] = now
            sent.append(now)
        for each in (desk, twin):
            if kind == "a":
                each.ask(raw, now)
            elif kind == "r":
                each.returned(raw)
            elif kind == "f":
                each.failed(raw, now)
            elif kind == "b":
                each.failed(raw, now, retry_after_s=1.0)
            elif kind == "l":
                each.answered(raw)
            elif kind == "c" and number == 0:
                each.clear()
        if kind in "rfbl":
            flying.pop(raw, None)
        elif kind == "c" and number == 0:
            flying.clear()
        if draw.random() < 0.2:
            twin = SnapshotDesk(per_s)
            twin.load(desk.save())
            desk = SnapshotDesk(per_s)
            desk.load(twin.save())
            twin = SnapshotDesk(per_s)
            later, *rest = desk.save()
            twin.load((later, *(dict(part) for part in rest)))  # type: ignore[arg-type]
    for first, at in enumerate(sent):
        for last, other in enumerate(sent[first:], 1):
            assert last <= per_s * ((other - at) / S + 1) + 1, "the pace, and a second's worth at once"

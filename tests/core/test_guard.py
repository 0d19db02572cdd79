"""The memory guard and the lag watch, on literal samples and clocks."""

from __future__ import annotations

from truetape.core.guard import EVERY, EVERY_PRESSED, ORDER, SECOND, Guard, Order, Restarts, Shed, Tell, Tidy
from truetape.core.lag import CLEAR_AFTER, LagWatch

MB = 1_000_000
T0 = 1_000_000 * SECOND


def kinds(orders: list[Order]) -> list[str]:
    return [type(order).__name__ for order in orders]


def test_in_peace_it_looks_every_five_seconds_and_orders_nothing() -> None:
    guard = Guard(100 * MB)
    assert guard.wants(50 * MB, T0)
    assert guard.sampled(50 * MB, 0, T0) == []
    assert not guard.wants(50 * MB, T0 + EVERY - 1)
    assert guard.wants(50 * MB, T0 + EVERY)
    assert guard.state == "ok"


def test_what_is_seen_between_two_samples_is_not_left_waiting() -> None:
    guard = Guard(100 * MB)
    guard.sampled(50 * MB, 0, T0)
    assert guard.wants(80 * MB, T0 + 1)


def test_tight_tidies_sheds_nothing_and_is_told_once() -> None:
    guard = Guard(100 * MB)
    assert kinds(guard.sampled(85 * MB, 0, T0)) == ["Tidy", "Tell"]
    assert kinds(guard.sampled(85 * MB, 0, T0 + EVERY_PRESSED)) == []
    assert guard.state == "tight"


def test_shedding_is_ordered_in_the_declared_order_and_for_what_is_too_much() -> None:
    guard = Guard(100 * MB)
    orders = guard.sampled(92 * MB, 0, T0)
    assert orders[0] == Tidy(garbage=True)
    assert orders[1:-1] == [Shed(kind, 17 * MB) for kind in ORDER]
    assert orders[-1] == Tell("shedding", "memory: 92 of 100 MB")


def test_it_is_over_only_well_below_the_mark() -> None:
    guard = Guard(100 * MB)
    guard.sampled(92 * MB, 0, T0)
    assert guard.sampled(78 * MB, 0, T0 + SECOND) == []
    assert guard.state == "shedding"
    assert guard.sampled(74 * MB, 0, T0 + 2 * SECOND) == [Tell("ok", "memory: 74 of 100 MB")]


def test_garbage_is_looked_for_only_where_mailboxes_do_not_explain_what_is_used() -> None:
    assert Guard(100 * MB).sampled(85 * MB, 50 * MB, T0)[0] == Tidy(garbage=False)
    assert Guard(100 * MB).sampled(85 * MB, 10 * MB, T0)[0] == Tidy(garbage=True)


def test_what_was_shed_and_not_filled_since_is_not_shed_again() -> None:
    guard = Guard(100 * MB)
    guard.sampled(92 * MB, 40 * MB, T0)
    guard.shed("superseded", 1000, 17 * MB)
    assert "Shed" not in kinds(guard.sampled(92 * MB, 23 * MB, T0 + SECOND))  # freed, but not given back to the system
    assert "Shed" not in kinds(guard.sampled(92 * MB, 37 * MB, T0 + 2 * SECOND))
    assert "Shed" in kinds(guard.sampled(93 * MB, 41 * MB, T0 + 3 * SECOND))  # it was filled again


def test_at_the_limit_only_resident_memory_counts() -> None:
    guard = Guard(100 * MB)
    guard.sampled(92 * MB, 40 * MB, T0)
    guard.shed("superseded", 1000, 17 * MB)
    assert Shed("superseded", 26 * MB) in guard.sampled(101 * MB, 23 * MB, T0 + SECOND)


def test_at_the_limit_it_sheds_first_and_restarts_when_that_did_not_help() -> None:
    guard = Guard(100 * MB)
    assert "Restart" not in kinds(guard.sampled(120 * MB, 0, T0))
    orders = guard.sampled(101 * MB, 0, T0 + EVERY_PRESSED)
    assert kinds(orders)[-2:] == ["Tell", "Restart"]
    assert guard.state == "restarting"
    assert guard.sampled(150 * MB, 0, T0 + 2 * EVERY_PRESSED) == []  # once is enough


def test_a_peak_that_shedding_ended_restarts_nothing() -> None:
    guard = Guard(100 * MB)
    guard.sampled(120 * MB, 0, T0)
    assert "Restart" not in kinds(guard.sampled(95 * MB, 0, T0 + EVERY_PRESSED))
    assert "Restart" not in kinds(guard.sampled(120 * MB, 0, T0 + 2 * EVERY_PRESSED))


def test_a_restart_that_did_not_help_is_not_repeated_at_once_and_that_is_said() -> None:
    before = Restarts().after(T0)
    guard = Guard(100 * MB, before)
    guard.sampled(120 * MB, 0, T0 + 5 * SECOND)
    (told,) = [order for order in guard.sampled(120 * MB, 0, T0 + 6 * SECOND) if isinstance(order, Tell)]
    assert told.state == "shedding"
    assert "did not help" in told.reason
    assert "54 s" in told.reason
    later = guard.sampled(120 * MB, 0, T0 + 7 * SECOND)
    assert "Tell" not in kinds(later)  # said once
    assert "Shed" in kinds(later)
    assert "Restart" in kinds(guard.sampled(120 * MB, 0, T0 + before.wait))


def test_the_wait_between_restarts_doubles_to_an_hour_and_is_forgotten_after_peace() -> None:
    restarts, now, waits = Restarts(), T0, []
    for _ in range(8):
        restarts = restarts.after(now)
        waits.append(restarts.wait // SECOND)
        now += restarts.wait
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert restarts.after(now + 4 * 3600 * SECOND).wait == 60 * SECOND


def test_a_late_beat_is_told_once_and_its_end_when_it_stays_away() -> None:
    watch = LagWatch(100_000_000)
    assert watch.beat(99_000_000, T0) == ""
    assert "120 ms late" in watch.beat(120_000_000, T0 + 1)
    assert watch.beat(500_000_000, T0 + 2) == ""
    assert watch.beat(60_000_000, T0 + SECOND) == ""  # over half of it: not well yet
    assert watch.beat(0, T0 + SECOND + CLEAR_AFTER - 1) == ""
    assert "over after 6.0 s" in watch.beat(0, T0 + SECOND + CLEAR_AFTER)
    assert (watch.state, watch.times, watch.longest) == ("ok", 1, 500_000_000)


def test_the_longest_lag_is_that_of_the_last_forty_beats() -> None:
    watch = LagWatch(100_000_000)
    watch.beat(50_000_000, T0)
    for at in range(39):
        watch.beat(-5, T0 + at)
    assert watch.recent == 50_000_000
    watch.beat(0, T0 + 40)
    assert watch.recent == 0

"""What is superseded by the next, on two lines whose venue sets its clock back: it goes on, and a line that is merely late does not pass."""

from truetape.core.book.sync import RESTART_AFTER
from truetape.core.feed.latest import Latest
from truetape.model.event import Book

S = 1_000_000_000
T0 = 1_700_000_000 * S


def whole(ts: int) -> Book:
    return Book("x", "A-B", "AB", ts, ts, [(10.0, ts / S)], [(11.0, 1.0)], snapshot=True)


def test_a_clock_set_back_on_both_lines_is_followed_after_a_while() -> None:
    latest = Latest()
    for line in (0, 1):
        latest.offer(line, whole(T0), T0, alone=False)
    passed = []
    for second in range(1, RESTART_AFTER + 2):
        for line in (0, 1):
            event = whole(T0 + (second - 3_600) * S)
            passed += latest.offer(line, event, T0 + second * S, alone=False)
    assert passed, "an hour must not pass before the venue is heard again"
    assert latest.place == T0 + (RESTART_AFTER + 1 - 3_600) * S


def test_a_line_that_is_late_is_never_news() -> None:
    latest = Latest()
    for second in range(100):
        latest.offer(0, whole(T0 + second * S), T0, alone=False)
        assert not latest.offer(1, whole(T0 + (second - 50) * S), T0, alone=False)

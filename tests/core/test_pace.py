"""The venue's limit on messages: counted over the last ones, pings among them."""

from truetape.core.feed.pace import Pace

S = 1_000_000_000


def test_the_latest_pings_count_not_the_first() -> None:
    """Three a second: after a ping that just left, two more may leave in the same second, however many pings went before."""
    pace = Pace(3)
    for at in range(2, 30, 2):
        pace.pinged(at * S)
    now = 28 * S + S // 10
    left = 0
    while pace.free_at <= now:
        pace.left(now)
        left += 1
    assert left == 2


def test_pings_leave_a_place_for_messages() -> None:
    pace = Pace(1)
    for at in range(10):
        pace.pinged(at * S)
    assert pace.free_at <= 9 * S

"""Waits between dials, and a crowd that comes back after an outage: pure machines on a virtual clock."""

import re
from collections import Counter
from heapq import heapify, heappop, heappush
from pathlib import Path
from random import Random

import pytest

from truetape.app.dialects import Names, dialect
from truetape.core.feed.backoff import Backoff, Jitter
from truetape.core.feed.session import Session, Timing
from truetape.core.feed.venue import Want

S = 1_000_000_000
T0 = 1_700_000_000 * S
CLIENTS = 500


def returns(outage_s: float, jitter: Jitter, first_s: float, seed: int) -> list[float]:
    """When each of 500 sessions, healthy and cut off at 0, made its first dial after the outage: s since its end, in order."""
    kind = dialect("kraken")
    how = Timing(jitter=jitter, backoff_first_s=first_s, ping_every_s=0, dead_after_s=0, ack_within_s=0)
    crowd: list[Session] = []
    for number in range(CLIENTS):
        url = "ws://venue"
        session = Session(
            "k-1",
            kind("kraken", Names(kind, url), url),
            url,
            [Want("trade", "A/B", "A-B")],
            how,
            Random(f"{seed}:{number}"),
        )
        session.start(T0 - 60 * S)
        session.opened(T0 - 60 * S)
        session.lost("connection_lost: the venue went down", T0)
        crowd.append(session)
    due = [(session.deadline or 0, number) for number, session in enumerate(crowd)]
    heapify(due)
    over = T0 + round(outage_s * S)
    back = []
    while due:
        now, number = heappop(due)
        session = crowd[number]
        assert session.tick(now), "what is due is a dial"
        if now >= over:
            back.append((now - over) / S)
            session.opened(now)
            continue
        session.lost("dial_failed: connection refused", now)
        heappush(due, (session.deadline or 0, number))
    return back


def worst_second(times: list[float]) -> int:
    """The most of these in any second, wherever it begins."""
    return max(sum(1 for at in times if begin <= at < begin + 1) for begin in times)


@pytest.mark.parametrize("jitter", [0.1, 0.3, "full"])
@pytest.mark.parametrize("first_s", [0.5, 1.0])
def test_of_500_clients_no_second_carries_more_than_a_tenth_after_an_outage_of_a_minute(
    jitter: Jitter, first_s: float
) -> None:
    for seed in range(3):
        back = returns(60, jitter, first_s, seed)
        print(f"seed={seed} jitter={jitter} first={first_s:g} worst second={worst_second(back)} last={back[-1]:.1f} s")
        assert len(back) == CLIENTS and worst_second(back) <= CLIENTS // 10
        assert back[-1] <= 30, "nobody waits longer than the cap"


def test_the_page_s_table_of_crowds_is_what_sessions_do() -> None:
    page = (Path(__file__).parents[2] / "docs" / "recovery.md").read_text()
    rows = re.findall(r"^\| (\d+) s \| (\d+) % \| (\d+) % \| (\d+) % \|$", page, re.MULTILINE)
    assert [int(row[0]) for row in rows] == [10, 30, 60, 300]
    for outage, *shares in rows:
        for jitter, share in zip((0.1, 0.3, "full"), shares, strict=True):
            worst = max(worst_second(returns(int(outage), jitter, 0.5, seed)) for seed in range(6))
            assert int(share) == round(100 * worst / CLIENTS), (outage, jitter)


def test_without_jitter_they_all_come_together() -> None:
    assert max(Counter(int(at) for at in returns(60, 0.0, 0.5, 1)).values()) > CLIENTS // 2, "the measure can fail"


@pytest.mark.parametrize(("jitter", "least", "most"), [(0.1, 0.9, 1.1), (0.3, 0.7, 1.3), ("full", 0.0, 1.0)])
def test_each_wait_is_within_the_configured_jitter(jitter: Jitter, least: float, most: float) -> None:
    waits: dict[int, list[float]] = {}
    for seed in range(400):
        backoff = Backoff(1.0, 30.0, jitter, Random(seed))
        for step in range(9):
            backoff.attempts += 1
            waits.setdefault(step, []).append(backoff.wait(False) / S)
    cap = 30.0 if jitter == "full" else 30.0 / most
    for step, found in waits.items():
        middle = min(2.0**step, cap)
        if step == 5 and jitter == 0.1:  # 32 s: the first wait at the cap is drawn wide
            assert min(found) < 3 and max(found) > 28 and 14 < sum(found) / len(found) < 17
            continue
        assert middle * least <= min(found) and max(found) <= min(30.0, middle * most) + 1e-6, (step, jitter)
        assert max(found) - min(found) > 0.9 * middle * (most - least), "and uses all of it"


def test_a_venue_that_says_zero_again_and_again_is_not_hammered() -> None:
    backoff = Backoff(0.5, 30.0, 0.3, Random(1))
    waits = []
    for _ in range(7):
        backoff.attempts += 1
        waits.append(backoff.wait(False, 0.0) / S)
    assert waits[0] <= 0.25 and waits[1] >= 0.7 and waits[6] >= 16

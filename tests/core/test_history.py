"""Histories: a client goes on exactly where it stopped, or hears that it cannot; and what they give up when memory is short."""

from __future__ import annotations

from random import Random

from tests.core.test_mailbox import trade
from truetape.core.route import shed
from truetape.core.route.router import Router, Topic
from truetape.core.serve.history import Histories
from truetape.model.event import Gap, Market, Trade

LINGER = 10
ALL = 1 << 40


def desk(*symbols: str, size: int = 100) -> tuple[Router, Histories, list[Topic]]:
    router = Router()
    histories = Histories(router, size, LINGER)
    topics = [router.topic("trade", "kraken", symbol) for symbol in symbols]
    for topic in topics:
        histories.keep(topic, 0)
    return router, histories, topics


def publish(router: Router, topic: Topic, count: int) -> None:
    for _ in range(count):
        router.publish(topic, trade(topic.published, topic.symbol))


def numbers(events: list[Market] | None) -> list[int] | None:
    return None if events is None else [int(event.id) for event in events if isinstance(event, Trade)]


def test_what_histories_hold_is_declared() -> None:
    router, histories, (one, other) = desk("A", "B")
    publish(router, one, 10)
    publish(router, other, 500)
    assert histories.bytes == (10 + 100) * shed.EVENT  # no more than their size


def test_topics_that_nobody_is_subscribed_to_are_forgotten_first_and_whole() -> None:
    router, histories, (light, heavy) = desk("A", "B")
    publish(router, light, 4)
    publish(router, heavy, 100)
    histories.sweep(1, {heavy.key: None})
    assert histories.shed(1) == (4, 4 * shed.EVENT)
    assert list(histories.taps) == [heavy.key]
    assert not light.boxes
    assert numbers(histories.since(heavy.key, 90)) == list(range(90, 100))


def test_then_the_heaviest_loses_its_older_half_and_who_left_before_it_hears_so() -> None:
    router, histories, (light, heavy) = desk("A", "B")
    publish(router, light, 4)
    publish(router, heavy, 100)
    assert histories.shed(10 * shed.EVENT) == (50, 50 * shed.EVENT)
    assert histories.since(heavy.key, 49) is None
    assert numbers(histories.since(heavy.key, 50)) == list(range(50, 100))
    assert numbers(histories.since(light.key, 0)) == [0, 1, 2, 3]
    publish(router, heavy, 1)
    assert numbers(histories.since(heavy.key, 99)) == [99, 100]


def test_at_the_end_everything_may_go_and_histories_begin_again() -> None:
    router, histories, (one, other) = desk("A", "B")
    publish(router, one, 7)
    publish(router, other, 100)
    router.notify(Gap("kraken", "A", "A", 0, "trade", 0, 0, "stale"))
    assert histories.shed(ALL) == (107, 107 * shed.EVENT)
    assert histories.bytes == 0
    assert histories.since(one.key, 6) is None
    assert [type(event) for event in histories.since(one.key, 7) or []] == [
        Gap
    ]  # told behind the last event: not lost with it
    publish(router, one, 2)
    assert numbers(histories.since(one.key, 7)) == [7, 8]


def test_whatever_was_shed_a_continuation_is_exact_or_refused() -> None:
    seed = 20261121
    print("seed", seed)
    random = Random(seed)
    router, histories, topics = desk("A", "B", "C", size=40)
    exact = refused = 0
    for _ in range(2_000):
        publish(router, random.choice(topics), random.randrange(5))
        if random.random() < 0.1:
            histories.shed(random.randrange(60) * shed.EVENT)
        topic = random.choice(topics)
        offset = random.randrange(max(0, topic.published - 60), topic.published + 1)
        found = numbers(histories.since(topic.key, offset))
        assert found is None or found == list(range(offset, topic.published))
        exact, refused = exact + (found is not None), refused + (found is None)
    assert exact > 300
    assert refused > 300

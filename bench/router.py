"""Ours, the router: one event to 1, 10 and 100 consumers (drop_oldest, exact ledger), taken in batches.

Prints one JSON line, see README.md ("The offline benches"). `ns_per_consumer` is all of it: handing over, the flush once per 100
events (as many as the asyncio.Queue baseline has per loop turn), and the taking. Beside it the parts, and `unbatched_ns`: a flush and
a take for every single event, as on a quiet market.
"""

import json
import statistics
import time

from truetape.core.route.mailbox import Mailbox
from truetape.core.route.modes import drop_oldest
from truetape.core.route.router import Router
from truetape.model.event import Trade

FAN_OUTS = (1, 10, 100)
DELIVERIES = 300_000
PER_FLUSH = 100
SYMBOLS = 10
ROUNDS = 7


class Fan:
    """A router, its consumers, and the events of one read, over ten symbols."""

    def __init__(self, consumers: int) -> None:
        self.router = Router()
        self.boxes = [Mailbox(f"consumer {n}", drop_oldest) for n in range(consumers)]
        for box in self.boxes:
            self.router.subscribe(box, [("trade", "bench", "*")])
        names = [f"S{n % SYMBOLS}" for n in range(PER_FLUSH)]
        self.events = [
            (self.router.topic("trade", "bench", name), Trade("bench", name, name, n, n, 100.0, 1.0))
            for n, name in enumerate(names)
        ]
        self.published = 0

    def batched(self, events: int) -> tuple[float, float, float]:
        """CPU ns per event and consumer of publish, flush and take."""
        router, clock = self.router, time.process_time_ns
        spent = [0, 0, 0]
        turns = events // PER_FLUSH
        for turn in range(turns):
            began = clock()
            for topic, event in self.events:
                router.publish(topic, event)
            handed = clock()
            woken = router.flush(turn)
            flushed = clock()
            for box in woken:
                while box.take(PER_FLUSH, turn):
                    pass
            spent[0] += handed - began
            spent[1] += flushed - handed
            spent[2] += clock() - flushed
        self.published += turns * PER_FLUSH
        each = turns * PER_FLUSH * len(self.boxes)
        return spent[0] / each, spent[1] / each, spent[2] / each

    def unbatched(self, events: int) -> float:
        """CPU ns per event and consumer when each event is flushed and taken alone."""
        router = self.router
        began = time.process_time_ns()
        for turn in range(events):
            topic, event = self.events[turn % PER_FLUSH]
            router.publish(topic, event)
            for box in router.flush(turn):
                while box.take(PER_FLUSH, turn):
                    pass
        self.published += events
        return (time.process_time_ns() - began) / events / len(self.boxes)

    def exact(self) -> bool:
        """Every ledger balances and nothing is missing."""
        ledgers = [box.ledger() for box in self.boxes]
        return all(ledger.balanced and ledger.delivered == self.published for ledger in ledgers)


def measure(consumers: int) -> dict[str, object]:
    """Medians of the rounds."""
    fan = Fan(consumers)
    events = DELIVERIES // consumers
    fan.batched(events // 10)
    parts = [fan.batched(events) for _ in range(ROUNDS)]
    alone = [fan.unbatched(events // 10) for _ in range(ROUNDS)]
    publish, flush, take = (statistics.median(part) for part in zip(*parts, strict=True))
    return {
        "ns_per_consumer": round(statistics.median(sum(part) for part in parts), 1),
        "events": events * ROUNDS,
        "ledger_exact": fan.exact(),
        "publish_ns": round(publish, 1),
        "flush_ns": round(flush, 1),
        "take_ns": round(take, 1),
        "unbatched_ns": round(statistics.median(alone), 1),
    }


def main() -> None:
    """Measure the three widths."""
    print(json.dumps({str(consumers): measure(consumers) for consumers in FAN_OUTS}))


if __name__ == "__main__":
    main()

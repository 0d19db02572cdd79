"""Fan-out as it is usually written: one asyncio.Queue and one task per consumer, `put_nowait` per event and consumer.

Prints one JSON line: {"1": {"ns_per_consumer", "events"}, "10": ..., "100": ...}; CPU time, 100 events per loop turn.
"""

import asyncio
import json
import time

FAN_OUTS = (1, 10, 100)
DELIVERIES = 300_000
PER_TURN = 100


async def consume(queue: "asyncio.Queue[object]", events: int, got: list[int], index: int) -> None:
    """Take every event and count it."""
    for _ in range(events):
        await queue.get()
        got[index] += 1


async def fan_out(consumers: int, events: int) -> float:
    """CPU seconds of handing every event to every consumer."""
    queues: list[asyncio.Queue[object]] = [asyncio.Queue(maxsize=1000) for _ in range(consumers)]
    got = [0] * consumers
    event = object()
    started = time.process_time()
    async with asyncio.TaskGroup() as group:
        for index, queue in enumerate(queues):
            group.create_task(consume(queue, events, got, index))
        for sent in range(events):
            for queue in queues:
                queue.put_nowait(event)
            if sent % PER_TURN == PER_TURN - 1:
                await asyncio.sleep(0)
    took = time.process_time() - started
    assert got == [events] * consumers, "a queue lost an event"
    return took


def main() -> None:
    """Measure the three widths."""
    line = {}
    for consumers in FAN_OUTS:
        events = DELIVERIES // consumers
        took = asyncio.run(fan_out(consumers, events))
        line[str(consumers)] = {"ns_per_consumer": round(took / events / consumers * 1e9, 1), "events": events}
    print(json.dumps(line))


if __name__ == "__main__":
    main()

"""The metrics of sinks: whether the bus takes anything, what it took, what was lost, what waits. Next door: `metrics.py` has the others.

A sink's box is a consumer too, `sink:<name>` of the consumers' metrics; here what left the box is added.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from truetape.app.secrets import redact
from truetape.io.obs.metrics import Definition, Sample

if TYPE_CHECKING:
    from truetape.app.live import Gateway

STATES = ("DOWN", "UP", "CLOSED")
REASONS = ("conflated", "dropped", "expired", "too_big", "abandoned")

DEFINITIONS: tuple[Definition, ...] = (
    Definition(
        "truetape_sink_state", "gauge", "1 for the state that the sink is in (UP is well, CLOSED the end).", ("sink", "kind", "state")
    ),
    Definition("truetape_sink_published_events_total", "counter", "Events that the bus confirmed, notices included.", ("sink",)),
    Definition("truetape_sink_published_bytes_total", "counter", "Their bytes.", ("sink",)),
    Definition("truetape_sink_again_events_total", "counter", "Events in hand that a new connection was given again.", ("sink",)),
    Definition(
        "truetape_sink_lost_events_total", "counter",
        "Events that were not published: conflated (merged into others), dropped and expired by the box's mode or in hand, too_big for the "
        "bus, abandoned at the end.", ("sink", "reason"),
    ),
    Definition("truetape_sink_queue_events", "gauge", "Events that wait for the bus: in the box, and in hand.", ("sink",)),
    Definition(
        "truetape_sink_queue_bytes", "gauge", "What these take, by estimate.", ("sink",)
    ),
    Definition("truetape_sink_reconnects_total", "counter", "Times that the bus took something again after an outage.", ("sink",)),
    Definition("truetape_sink_outages_total", "counter", "Times that it was found away.", ("sink",)),
    Definition("truetape_sink_errors_total", "counter", "Dials and connections that failed.", ("sink",)),
)  # fmt: skip


def sinks(gateway: Gateway) -> Iterator[Sample]:
    """Of each, now."""
    for sink, row in gateway.sinks.rows():
        name, kind, counts, box = redact(sink.name), row.kind, sink.counts, sink.box
        for state in STATES:
            yield Sample("truetape_sink_state", (name, kind, state), state == sink.state)
        lost = (box.conflated, box.dropped, box.expired + counts.expired, counts.refused, counts.abandoned)
        for reason, count in zip(REASONS, lost, strict=True):
            yield Sample("truetape_sink_lost_events_total", (name, reason), count)
        for metric, value in (
            ("published_events_total", counts.published), ("published_bytes_total", counts.bytes),
            ("again_events_total", counts.again), ("queue_events", sink.queued), ("queue_bytes", sink.queue_bytes),
            ("reconnects_total", counts.reconnects), ("outages_total", counts.outages), ("errors_total", counts.errors),
        ):  # fmt: skip
            yield Sample(f"truetape_sink_{metric}", (name,), value)

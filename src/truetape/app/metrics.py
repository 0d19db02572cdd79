"""Every metric of `/metrics`: what it is called, what it means, and the plain counter that it is read from when somebody asks.

Labels are feed, venue, channel, consumer and words of closed lists (state, reason, stage, quantile); never a symbol, for a venue has
thousands. docs/metrics.md is made from `DEFINITIONS`. Next door: `io/obs/metrics.py` makes the text.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from typing import TYPE_CHECKING

import truetape
from truetape.app import memory
from truetape.app.calm import pauses
from truetape.app.departed import KINDS, Departed, add
from truetape.app.metrics_feeds import DEFINITIONS as FEEDS
from truetape.app.metrics_feeds import feeds
from truetape.app.metrics_sinks import DEFINITIONS as SINKS
from truetape.app.metrics_sinks import sinks
from truetape.app.pulse import Pulse
from truetape.app.secrets import redact
from truetape.core.feed.delay import Histogram
from truetape.io.clock import cpu_s, drift_ns
from truetape.io.obs.metrics import Definition, Exposition, Sample

if TYPE_CHECKING:
    from truetape.app.live import Gateway
    from truetape.app.serve import Service

NS = 1_000_000_000
STAGES = ("network", "decode", "queue", "delivery")
QUANTILES = (0.5, 0.9, 0.99, 0.999)
EDGES_MS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 10_000.0)
STATES = ("ok", "failing", "full", "closed")


def _gauge(name: str, help_: str, *labels: str) -> Definition:
    return Definition(name, "gauge", help_, labels)


def _counter(name: str, help_: str, *labels: str) -> Definition:
    return Definition(name, "counter", help_, labels)


DEFINITIONS: tuple[Definition, ...] = (
    _gauge("truetape_build_info", "Always 1; which truetape and which Python.", "version", "python"),
    _gauge("truetape_start_time_seconds", "When the gateway was made, Unix time."),
    _gauge("truetape_ready_state", "1 where /readyz answers 200, else 0."),
    *FEEDS,
    Definition(
        "truetape_delay_quantile_seconds", "summary",
        "Delays since the start. network: from the venue's stamp to our receipt; decode: one read of a socket, judged and put into the boxes; "
        "queue: until a consumer takes it; delivery: the consumer's own work. The upper edge of an eighth of a power of two.",
        ("stage", "feed", "venue", "quantile"),
    ),
    Definition(
        "truetape_delay_seconds", "histogram",
        "The same delays as counts, for windows: histogram_quantile(0.99, sum by (le) (rate(truetape_delay_seconds_bucket[5m]))).",
        ("stage", "feed", "venue"),
    ),
    _counter(
        "truetape_delay_negative_total", "Events stamped later than they came: the venue's clock is ahead.", "feed", "venue"
    ),
    _counter("truetape_events_total", "Market events that left the pump.", "channel"),
    _counter("truetape_gaps_total", "How often a subscription went blind, by cause.", "venue", "channel", "reason"),
    _counter("truetape_commands_refused_total", "Orders to the pump that could not be followed."),
    _gauge("truetape_consumer_boxes", "Boxes open now.", "consumer"),
    _gauge("truetape_consumer_queue_events", "Events that wait in boxes.", "consumer"),
    _gauge("truetape_consumer_topics", "Topics that boxes receive.", "consumer"),
    _counter("truetape_consumer_delivered_events_total", "Events taken.", "consumer"),
    _counter(
        "truetape_consumer_lost_events_total", "Events that were not delivered: conflated (merged into others), dropped, expired.",
        "consumer", "reason",
    ),
    *SINKS,
    _gauge("truetape_loop_lag_seconds", "The latest beat of the last ten seconds."),
    _gauge("truetape_loop_lag_longest_seconds", "The latest beat since the start."),
    _counter("truetape_loop_lagged_total", "How often the loop began to be late."),
    _gauge("truetape_memory_resident_bytes", "Resident memory."),
    _gauge("truetape_memory_budget_bytes", "[memory] budget_mb."),
    _gauge("truetape_memory_held_bytes", "Estimates of who holds how much; docs/pressure.md has the holders.", "holder"),
    _counter("truetape_memory_shed_bytes_total", "What was shed near the budget, in the declared order.", "holder"),
    _gauge("truetape_memory_restarts", "Restarts at the budget, one soon after the other, that led to this process."),
    _counter("truetape_gc_pause_seconds_total", "Time that collections of garbage took."),
    _gauge("truetape_gc_pause_longest_seconds", "The longest of them."),
    _counter("truetape_gc_collections_total", "Collections.", "generation"),
    _counter("truetape_cpu_seconds_total", "Processor time of the process."),
    _gauge("truetape_clock_drift_seconds", "How far our time has come apart from the wall clock since the start."),
    _gauge("truetape_journal_state", "1 for the state that the tape is in.", "state"),
    _gauge("truetape_journal_flushed_record", "The last record that is durable or accounted for by a Hole; -1 none."),
    _gauge("truetape_journal_next_record", "The number of the next record."),
    _gauge("truetape_journal_backlog_bytes", "What waits for the disk."),
    _counter("truetape_journal_holes_total", "Holes in the tape, made by this process."),
    _counter("truetape_journal_missing_records_total", "Records that they stand for."),
    Definition("truetape_journal_sync_seconds", "summary", "A write with its fdatasync, of the last 512.", ("quantile",)),
    _gauge("truetape_journal_archive_bytes", "What closed segments take on disk."),
    _counter(
        "truetape_trace_spans_total", "Spans of [trace]: ended, delivered to the collector, refused in requests that failed; the rest waits.",
        "result",
    ),
    _gauge("truetape_clients_connected", "Downstream clients, by how they are connected.", "transport"),
    _gauge("truetape_clients_blocked", "Downstream clients whose socket takes nothing at the moment."),
    _gauge("truetape_clients_buffered_bytes", "What waits in their sockets."),
    _counter("truetape_clients_sent_bytes_total", "Bytes sent to downstream clients."),
    _counter("truetape_clients_sent_messages_total", "Messages sent to downstream clients."),
    _counter("truetape_clients_refused_total", "Handshakes refused, by HTTP status.", "reason"),
    _counter("truetape_clients_ended_total", "Downstream clients that went, by the reason of their end.", "reason"),
    _counter("truetape_clients_cut_total", "Bots of native dialects that were cut, for they did not read."),
)  # fmt: skip


def exposition(gateway: Gateway) -> Exposition:
    """What `/metrics` answers from."""
    return Exposition(DEFINITIONS, lambda: read(gateway))


def read(gateway: Gateway) -> Iterator[Sample]:
    """All of them, now. Reads counters, settles nothing, and asks no box to judge."""
    yield Sample("truetape_build_info", (truetape.__version__, platform.python_version()), 1)
    yield Sample("truetape_start_time_seconds", (), gateway.started / NS)
    yield from feeds(gateway)
    yield from _delays(gateway)
    for kind, count in gateway.pump.digest.counts().items():
        yield Sample("truetape_events_total", (kind,), count)
    for (venue, channel, reason), count in gateway.pump.judge.tally.counts.items():
        yield Sample("truetape_gaps_total", (venue, channel, reason), count)
    yield Sample("truetape_commands_refused_total", (), gateway.pump.refused)
    yield from _consumers(gateway)
    yield from sinks(gateway)
    yield from _process(gateway)
    yield from _journal(gateway)
    if gateway.tracing is not None:
        counts = gateway.tracing.tracer.counts
        for result, count in (("ended", counts.spans), ("delivered", counts.delivered), ("refused", counts.refused)):
            yield Sample("truetape_trace_spans_total", (result,), count)
    if gateway.service is not None:
        yield from _clients(gateway.service, gateway.departed)


def _delays(gateway: Gateway) -> Iterator[Sample]:
    stages = gateway.driver.stages
    rows = [("network", link.feed.name, link.label, link.delay) for link in gateway.pump.links.values()]
    merged: dict[tuple[str, str, str], Histogram] = {}
    for stage, feed, venue, histogram in rows:
        histogram.fold()
        into = merged.setdefault((stage, feed, venue), Histogram())
        for index, count in histogram.buckets.items():
            into.buckets[index] = into.buckets.get(index, 0) + count
        into.total += histogram.total
        into.negative += histogram.negative
        into.largest = max(into.largest, histogram.largest)
    own = {("decode", "", ""): stages.decode, ("queue", "", ""): stages.queue, ("delivery", "", ""): stages.delivery}
    for labels, histogram in (merged | own).items():
        for share in QUANTILES:
            value = histogram.percentile(share)
            if value is not None:
                yield Sample("truetape_delay_quantile_seconds", (*labels, f"{share:g}"), value / NS)
        yield Sample("truetape_delay_seconds", labels, _buckets(histogram))
        if labels[0] == "network":
            yield Sample("truetape_delay_negative_total", labels[1:], histogram.negative)


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """How many up to each edge; negative delays are under all of them."""
    rows = histogram.rows()
    out: list[tuple[str, float]] = []
    at, seen = 0, histogram.negative
    for edge in EDGES_MS:
        while at < len(rows) and rows[at][0] <= edge:
            seen += rows[at][1]
            at += 1
        out.append((f"{edge / 1000:g}", seen))
    return [*out, ("+Inf", histogram.total)]


def _consumers(gateway: Gateway) -> Iterator[Sample]:
    departed = gateway.departed
    sums = {name: list(row) for name, row in departed.consumers.items()}
    now: dict[str, list[int]] = {name: [0, 0, 0] for name in sums}
    for box in gateway.boxes:
        name = departed.name(box)
        add(departed.row(sums, name), box)
        here = now.setdefault(name if name in sums else "(others)", [0, 0, 0])
        here[0] += 1
        here[1] += max(0, box.data()) + len(box.pending) + (box.hand is not None)
        here[2] += len(box.topics)
    for name, row in sums.items():
        shown = redact(name)
        for kind, count in zip(KINDS, row, strict=True):
            if kind == "delivered":
                yield Sample("truetape_consumer_delivered_events_total", (shown,), count)
            else:
                yield Sample("truetape_consumer_lost_events_total", (shown, kind), count)
    for name, (boxes, queued, topics) in now.items():
        if boxes:
            yield Sample("truetape_consumer_boxes", (redact(name),), boxes)
            yield Sample("truetape_consumer_queue_events", (redact(name),), queued)
            yield Sample("truetape_consumer_topics", (redact(name),), topics)


def _process(gateway: Gateway) -> Iterator[Sample]:
    yield Sample("truetape_memory_resident_bytes", (), memory.rss())
    yield Sample("truetape_cpu_seconds_total", (), cpu_s())
    yield Sample("truetape_clock_drift_seconds", (), drift_ns() / NS)
    pulse: object = gateway.pulse
    if not isinstance(pulse, Pulse):
        return  # a tape that is played in a gateway's place
    guard, lag = pulse.guard, pulse.lag
    yield Sample("truetape_loop_lag_seconds", (), lag.recent / NS)
    yield Sample("truetape_loop_lag_longest_seconds", (), lag.longest / NS)
    yield Sample("truetape_loop_lagged_total", (), lag.times)
    yield Sample("truetape_memory_budget_bytes", (), guard.budget)
    for holder, size in pulse.held().items():
        yield Sample("truetape_memory_held_bytes", (holder,), size)
    for holder, (_, size) in guard.freed.items():
        yield Sample("truetape_memory_shed_bytes_total", (holder,), size)
    yield Sample("truetape_memory_restarts", (), guard.restarts.count)
    yield Sample("truetape_gc_pause_seconds_total", (), pauses.total_ns / NS)
    yield Sample("truetape_gc_pause_longest_seconds", (), pauses.longest_ns / NS)
    for generation, count in enumerate(pauses.collections):
        yield Sample("truetape_gc_collections_total", (str(generation),), count)


def _journal(gateway: Gateway) -> Iterator[Sample]:
    if gateway.journal is None:
        return
    tape = gateway.journal.status()
    for state in STATES:
        yield Sample("truetape_journal_state", (state,), state == tape.state)
    yield Sample("truetape_journal_flushed_record", (), tape.flushed_record)
    yield Sample("truetape_journal_next_record", (), tape.next_record)
    yield Sample("truetape_journal_backlog_bytes", (), tape.backlog_bytes)
    yield Sample("truetape_journal_holes_total", (), tape.holes)
    yield Sample("truetape_journal_missing_records_total", (), tape.missing)
    yield Sample("truetape_journal_sync_seconds", ("0.99",), tape.sync_ms_p99 / 1000)
    yield Sample("truetape_journal_archive_bytes", (), tape.archive_bytes)


def _clients(service: Service, departed: Departed) -> Iterator[Sample]:
    clients, visits = service.hall.clients, service.natives.visits
    local = sum(client.address == "unix" for client in clients)
    counts = {"websocket": len(clients) - local, "unix": local, "native": len(visits)}
    for transport, count in counts.items():
        yield Sample("truetape_clients_connected", (transport,), count)
    waiting = [client.pipe.waiting() for client in clients]
    sent = sum(client.bytes_out for client in clients) + sum(visit.bytes_out for visit in visits.values())
    said = sum(client.messages_out for client in clients) + sum(visit.messages_out for visit in visits.values())
    yield Sample("truetape_clients_blocked", (), sum(bool(client.blocked_since) for client in clients))
    yield Sample("truetape_clients_buffered_bytes", (), sum(waiting))
    yield Sample("truetape_clients_sent_bytes_total", (), departed.client_bytes + sent)
    yield Sample("truetape_clients_sent_messages_total", (), departed.client_messages + said)
    for reason, count in service.refused.items():
        yield Sample("truetape_clients_refused_total", (reason,), count)
    for reason, count in departed.ended.items():
        yield Sample("truetape_clients_ended_total", (reason,), count)
    yield Sample("truetape_clients_cut_total", (), service.natives.cut)
    yield Sample("truetape_ready_state", (), service.waiting_for() is None)

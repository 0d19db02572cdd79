"""One answer to "how is it?": every subscription, connection and consumer, the journal and the process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

import truetape
from truetape.app.secrets import redact
from truetape.core.feed.delay import Stages, explain
from truetape.core.feed.watch import Pings
from truetape.io.clock import KEEPER, cpu_s, drift_ns
from truetape.io.clock import now as clock

if TYPE_CHECKING:
    from truetape.app.live import Gateway

MS = 1_000_000
SECOND = 1_000_000_000


def status(gateway: Gateway, *, subscriptions: bool = True) -> dict[str, Any]:
    """The tree that `truetape status --json` prints; without `subscriptions` where they are many and not wanted."""
    now, entered = clock(), hasattr(gateway, "driver")
    return {
        "version": truetape.__version__,
        "started": gateway.started,
        "data_port": gateway.service.port if gateway.service is not None else None,
        "uptime_s": round((now - gateway.started) / SECOND, 3),
        "subscriptions": [row for link in gateway.pump.links.values() for row in _streams(link, now)]
        if subscriptions
        else [],
        "connections": [
            _connection(link) | _tls(gateway, link) for link in gateway.pump.links.values() if not link.parked
        ],
        "endpoints": _endpoints(gateway, now),
        "consumers": [
            {
                "name": box.name,
                "mode": box.mode.name,
                **msgspec.to_builtins(box.ledger()),
                "balanced": box.ledger().balanced,
            }
            for box in gateway.boxes
        ],
        "sinks": gateway.sinks.report(),
        "trace": gateway.tracing.report() if gateway.tracing is not None else None,
        "journal": _journal(gateway),
        **gateway.pulse.report(),
        "markets": gateway.hours.report(),
        "refused_commands": gateway.pump.refused,
        "cpu_s": round(cpu_s(), 3),
        "clock_drift_ms": round(drift_ns() / MS, 3),
        "clock": _clock(),
        "stages": _stages(gateway.driver.stages if entered else Stages()),
    }


def _journal(gateway: Gateway) -> dict[str, Any] | None:
    """What a disk's errors say is not ours."""
    if gateway.journal is None:
        return None
    row: dict[str, Any] = msgspec.to_builtins(gateway.journal.status())
    return {name: redact(value) if isinstance(value, str) else value for name, value in row.items()}


def _streams(link: Any, now: int) -> list[dict[str, Any]]:
    rows = []
    for stream in link.streams.values():
        sync = stream.sync
        rows.append(
            {
                "venue": stream.venue,
                "symbol": stream.symbol,
                "channel": stream.channel,
                "state": stream.state,
                "evidence": stream.evidence if sync is None else sync.evidence,
                "reason": redact(stream.reason),
                "since": stream.since,
                "age_s": round((now - stream.last) / SECOND, 3) if stream.last else None,
                "last_seq": sync.seq if sync is not None and sync.seq >= 0 else None,
                "last_verified": sync.verified or None if sync is not None else None,
                "threshold_s": round(stream.threshold / SECOND, 3),
                "samples": stream.count,
            }
        )
    return rows


def _clock() -> dict[str, Any]:
    """What became of the wall clock and of time itself since the start."""
    clocks = KEEPER.clocks
    return {
        "drift_ms": round(drift_ns() / MS, 3),
        "steps": clocks.steps,
        "last_step_s": round(clocks.last_step / SECOND, 3),
        "suspended": clocks.sleeps,
        "suspended_s": round(clocks.slept / SECOND, 3),
    }


def _tls(gateway: Gateway, link: Any) -> dict[str, Any]:
    """How long the venue's certificate is valid, days since it was dialed; and whether its key is one of the pins (null: none set, or seen)."""
    pins = gateway.dialing(link.feed.name).pins
    driver = getattr(gateway, "driver", None)  # it is made on entry
    days = driver.certificate_days.get(link.source) if driver is not None else None
    return {
        "certificate_days": round(days, 1) if days is not None else None,
        "pinned": pins.matched if pins is not None else None,
    }


def _endpoints(gateway: Gateway, now: int) -> list[dict[str, Any]]:
    """Each address of each feed, and whether it is dialed: `until_s` is how long an open circuit is left alone."""
    return [
        {
            "feed": name,
            "url": base,
            "state": row.state,
            "failures": row.failures,
            "until_s": round((row.until - now) / SECOND, 3) if row.until > now else None,
        }
        for name, circuits in gateway.pump.circuits.items()
        for base, row in zip(circuits.bases, circuits.rows, strict=True)
    ]


def _connection(link: Any) -> dict[str, Any]:
    session, watch = link.session, link.session.watch
    on, now = watch.state, clock()
    return {
        "name": link.source,
        "url": session.url,
        "state": session.state,
        "reason": redact(session.reason),  # a venue may repeat what it was sent
        "rtt_ms": _ms(on.rtt_ns if on.rtt_ns >= 0 else None),
        "offset_ms": _ms(on.offset_ns),
        "pings": _pings(on.pings, watch.pong_within, now),
        "app_pings": _pings(on.app_pings, watch.app_every, now),
        "reconnects": session.reconnects,
        "frames": link.counts.frames,
        "errors": link.counts.errors,
        "ignored": link.counts.ignored,
        "damaged": link.counts.damaged,
        "unacknowledged": len(session.unacknowledged),
        "delay_ms_p50": _ms(link.delay.percentile(0.5)),
        "delay_ms_p99": _ms(link.delay.percentile(0.99)),
        "delay_negative": link.delay.negative,
        "delay_why": explain(link.delay, on.offset_ns),
        **({"line": _line(link)} if link.pair is not None else {}),
    }


def _pings(pings: Pings, within: int, now: int) -> dict[str, Any]:
    """Pings of one kind; the rate and the longest round trip are those of the last hundred."""
    rate = pings.rate(within, now)
    return {
        "sent": pings.sent,
        "answered": pings.answered,
        "rate": round(rate, 4) if rate is not None else None,
        "rtt_ms_longest": _ms(pings.worst_ns() if pings.worst_ns() >= 0 else None),
    }


def _stages(stages: Stages) -> dict[str, Any]:
    """Where the time goes after an event came in; what lies before it is each connection's `delay`."""
    rows = {"decode": stages.decode, "queue": stages.queue, "delivery": stages.delivery}
    return {
        name: {"ms_p50": _ms(row.percentile(0.5)), "ms_p99": _ms(row.percentile(0.99)), "samples": row.total}
        for name, row in rows.items()
    }


def _line(link: Any) -> dict[str, Any]:
    """What this line of two is good for."""
    tally = link.pair.tally[link.line]
    wins = sum(one.wins for one in link.pair.tally)
    return {
        "leads": link.leads,
        "wins": tally.wins,
        "win_rate": round(tally.wins / wins, 4) if wins else None,
        "late": tally.late,
        "missed": tally.missed,
        "saved": tally.saved,
    }


def _ms(ns: int | None) -> float | None:
    return round(ns / MS, 3) if ns is not None else None

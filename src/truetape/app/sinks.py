"""A gateway's sinks: each holds its subscriptions like a consumer, in a box of its own, and publishes what the box gives.

Next door: `config_sinks.py` has the tables; `io/bus/sink.py` is the driver of one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

from truetape.app import secrets, tls
from truetape.app.config import ConfigError
from truetape.app.config_sinks import SinkConfig
from truetape.core.route.mailbox import Mailbox, Mode
from truetape.core.route.modes import conflate, drop_newest, drop_oldest, max_age
from truetape.io.bus.bus import Bus
from truetape.io.bus.sink import How, Sink
from truetape.io.clock import now as clock
from truetape.model.event import Status

if TYPE_CHECKING:
    from truetape.app.live import Gateway

DRAIN_S = 2.0
"""How long sinks have at the end for what lies in their boxes."""


class Sinks:
    """All of one gateway. `start` makes them on its loop, `drain` ends them."""

    def __init__(self, gateway: Gateway, rows: Sequence[SinkConfig]) -> None:
        self._gateway = gateway
        self._rows = rows
        self._tasks: list[asyncio.Task[None]] = []
        self.sinks: list[Sink] = []

    def start(self, group: asyncio.TaskGroup) -> None:
        """Subscribe and begin. A server that is away is no mistake; what cannot be is a ConfigError."""
        for number, row in enumerate(self._rows):
            self.sinks.append(self._sink(f"sinks[{number}]", row))
        self._tasks = [group.create_task(sink.run()) for sink in self.sinks]

    def _sink(self, at: str, row: SinkConfig) -> Sink:
        gateway = self._gateway
        name = row.name or row.kind
        bus = make_bus(at, row)
        box = Mailbox(f"sink:{name}", _mode(row), row.bound, row.depth)
        try:
            asked = gateway.wants.find(row.symbols, row.channels)
            gateway.pump.router.subscribe(box, [one.pattern for one in asked])
        except (ConfigError, ValueError) as error:
            raise ConfigError(f"{at}: {error}") from None
        how = How(
            prefix=row.prefix, encoding=row.encoding, in_flight=row.in_flight_bytes, confirm_s=row.confirm_s,
            backoff_first_s=min(0.25, row.backoff_max_s), backoff_max_s=row.backoff_max_s,
        )  # fmt: skip

        def tell(state: str, why: str) -> None:
            now = clock()
            reason = f"{name}: {why}" if why else name
            gateway.pump.router.notify(Status("", "", "", now, "", state, reason, since=now))
            gateway.driver.wake(now)

        sink = Sink(
            name, bus, box, how, Random(f"{gateway.seed} {name}"),
            arm=gateway.driver.arm_windows, redact=secrets.redact, tell=tell,
        )  # fmt: skip
        gateway.boxes[box] = asked
        gateway.driver.wakers[box] = sink.wake
        gateway.wants.hold(box, asked)
        gateway.wants.tell(box, asked, clock())
        return sink

    async def drain(self) -> None:
        """Nothing more comes in: publish what lies there, for `DRAIN_S` at most."""
        for sink in self.sinks:
            sink.finish()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=DRAIN_S)
            for task in late:
                task.cancel()

    def kinds(self) -> list[tuple[Sink, str]]:
        """Each with what it speaks."""
        return [(sink, row.kind) for sink, row in zip(self.sinks, self._rows, strict=False)]

    def report(self) -> list[dict[str, Any]]:
        """For the status: each with what its server took, and the ledger of its box."""
        return [
            {
                **sink.status(),
                "kind": row.kind,
                "url": row.url,
                "mode": sink.box.mode.name,
                "ledger": msgspec.to_builtins(sink.box.ledger()),
                "balanced": sink.box.ledger().balanced,
            }
            for sink, row in zip(self.sinks, self._rows, strict=False)
        ]


def make_bus(at: str, row: SinkConfig) -> Bus:
    """The connection that a table describes, not opened yet. Raises ConfigError: no library for it, a secret that cannot be read."""
    secret = secrets.Secret(row.secret) if row.secret else None
    try:
        if secret is not None:
            secret.reveal()
    except secrets.SecretError as error:
        raise ConfigError(f"{at}: {error}") from None
    context = tls.context(row.ca_file) if row.ca_file or row.url.startswith(("tls://", "rediss://")) else None
    reveal = secret.reveal if secret is not None else None
    extra = row.kind.partition("_")[0]
    try:
        if row.kind == "nats":
            from truetape.io.bus.nats import Nats

            return Nats(row.url, row.user, reveal, context, row.confirm_s)
        from truetape.io.bus.redis import Redis

        return Redis(row.url, row.user, reveal, row.ca_file, stream=row.kind == "redis_stream", maxlen=row.maxlen)
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith(extra):
            raise
        raise ConfigError(f"{at}: kind = \"{row.kind}\" needs an extra: pip install 'truetape[{extra}]'") from None


def _mode(row: SinkConfig) -> Mode:
    if row.mode == "conflate":
        return conflate(ms=row.conflate_ms)
    if row.mode == "max_age":
        return max_age(row.max_age_ms / 1000)
    return drop_oldest if row.mode == "drop_oldest" else drop_newest

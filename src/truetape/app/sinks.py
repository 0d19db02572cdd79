"""A gateway's sinks: each holds its subscriptions like a consumer, in a box of its own, and publishes what the box gives.

Next door: `config_sinks.py` has the tables; `io/bus/sink.py` is the driver of one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from truetape.app import secrets, tls
from truetape.app.config import ConfigError
from truetape.app.config_sinks import SinkConfig
from truetape.core.route.mailbox import Mailbox, Mode
from truetape.core.route.modes import conflate, drop_newest, drop_oldest, max_age
from truetape.io.bus.bus import Bus
from truetape.io.bus.sink import How, Sink
from truetape.io.clock import now as clock
from truetape.io.obs import log
from truetape.model.event import Status

if TYPE_CHECKING:
    from truetape.app.live import Gateway

DRAIN_S = 2.0
"""How long sinks have at the end for what lies in their boxes."""


class Sinks:
    """All of one gateway. `start` makes them on its loop, `drain` ends them."""

    def __init__(self, gateway: Gateway, rows: Sequence[SinkConfig]) -> None:
        self._gateway = gateway
        self._rows = list(rows)
        self._group: asyncio.TaskGroup | None = None
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._by_name: dict[str, tuple[Sink, asyncio.Task[None]]] = {}

    @property
    def sinks(self) -> list[Sink]:
        """In the configuration's order."""
        return [sink for sink, _ in self.rows()]

    def start(self, group: asyncio.TaskGroup) -> None:
        """Subscribe and begin. A server that is away is no mistake; what cannot be is a ConfigError."""
        self._group = group
        made = [self._sink(f"sinks[{number}]", row) for number, row in enumerate(self._rows)]
        for sink in made:
            self._begin(sink, None)

    def _begin(self, sink: Sink, after: asyncio.Task[None] | None) -> None:
        assert self._group is not None, "begun by `start`"
        task = self._group.create_task(_run(sink, after))
        self._by_name[sink.name] = sink, task
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)

    def replace(self, rows: Sequence[SinkConfig]) -> Replaced:
        """Run these from now on; those of which nothing changed go on. One that goes publishes what lies in its box, for `DRAIN_S`; one of its
        name hears from now on, and publishes after it. All was tried before."""
        before, after = ({_name(row): row for row in some} for some in (self._rows, rows))
        done = Replaced([], [], [])
        self._rows = list(rows)
        for name, row in before.items():
            if name not in after:
                done.removed.append(f"sink {name}")
                self._end(*self._by_name.pop(name))
            elif row != after[name]:
                keys = [key for key in row.__struct_fields__ if getattr(row, key) != getattr(after[name], key)]
                done.changed.append(f"sinks.{name} ({', '.join(keys)}): made anew")
        for number, row in enumerate(rows):
            name = _name(row)
            if before.get(name) == row:
                continue
            old = self._by_name.pop(name, None)
            try:
                sink = self._sink(f"sinks[{number}]", row)
            except ConfigError as error:  # no room for what it names
                log.warning("sink not begun", sink=name, why=str(error))
                done.changed.append(f"sinks.{name}: not begun: {error}")
                sink = None
            ending = self._end(*old) if old is not None else None
            if sink is not None:
                self._begin(sink, ending)
            if old is None:
                done.added.append(f"sink {name}")
        return done

    def _end(self, sink: Sink, task: asyncio.Task[None]) -> asyncio.Task[None]:
        """Let it publish what it has; returns when that is over."""
        assert self._group is not None, "begun by `start`"
        sink.part()
        ending = self._group.create_task(self._ended(sink, task))
        self._tasks[ending] = None
        ending.add_done_callback(self._tasks.pop)
        return ending

    async def _ended(self, sink: Sink, task: asyncio.Task[None]) -> None:
        await asyncio.wait((task,), timeout=DRAIN_S)
        task.cancel()
        self._gateway.release(sink.box, "its sink was removed")

    def _sink(self, at: str, row: SinkConfig) -> Sink:
        gateway = self._gateway
        name = _name(row)
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
            _, late = await asyncio.wait(list(self._tasks), timeout=DRAIN_S)
            for task in late:
                task.cancel()

    def rows(self) -> list[tuple[Sink, SinkConfig]]:
        """Each with its table. One that could not be begun is not among them."""
        return [(self._by_name[name][0], row) for row in self._rows if (name := _name(row)) in self._by_name]

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
            for sink, row in self.rows()
        ]


class Replaced(Struct):
    """What became of the sinks, in words."""

    added: list[str]
    removed: list[str]
    changed: list[str]


def _name(row: SinkConfig) -> str:
    return row.name or row.kind


async def _run(sink: Sink, after: asyncio.Task[None] | None) -> None:
    if after is not None:
        await asyncio.wait((after,))
    await sink.run()


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

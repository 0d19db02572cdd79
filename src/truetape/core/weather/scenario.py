"""What a seed stands for: which venues, symbols and consumers, how they are configured, and what goes wrong when.

Every seed draws its own subset of everything (a swarm): what all seeds had in common would be tested only in that company. A scenario is
plain data: two of the same seed are equal, and one with fewer mishaps is still a scenario, which is how a failure is made small.
"""

from __future__ import annotations

from random import Random

from msgspec import Struct

from truetape.core.sim.faults import OF_FRAMES, OF_SYMBOLS

VENUES = ("binance", "kraken", "tickdb")
SYMBOLS = (7, 7, 6)
MISHAPS_MIN = 5
STORM_S = (22.0, 30.0)
"""How long things go wrong."""
CALM_S = 16.0
"""How long nothing does, afterwards."""
LINES_SHARE = 0.25
"""Of the venues have two lines."""
PROFILES = ((2.0, 2.0), (2.0, 2.0), (1.0, 1.0), (5.0, 10.0))
"""Ping every, pong within."""

OF_NETWORK = {
    "cut": (0.0, 0.0),
    "stall-down": (0.3, 12.0),
    "stall-up": (0.3, 12.0),
    "stall-both": (0.3, 14.0),
    "pongs-only": (2.0, 12.0),
    "pongs-lost": (1.0, 10.0),
    "refuse": (1.0, 6.0),
    "deaf": (1.0, 6.0),
    "rest-500": (1.0, 4.0),
    "rest-429": (1.0, 4.0),
    "rest-dead": (1.0, 4.0),
    "rest-slow": (1.0, 6.0),
    "slow-link": (1.0, 6.0),
    "lag": (1.0, 8.0),
}
"""Mishaps that the network makes, and how long they may last, s."""
OF_VENUE = {
    "mute-symbol": (2.0, 14.0),
    "drop-delta": (1.0, 5.0),
    "wrong-checksum": (1.0, 4.0),
    "close-1000": (0.0, 0.0),
    "close-1001": (0.0, 0.0),
    "close-1006": (0.0, 0.0),
    "close-1011": (0.0, 0.0),
    "half-open": (1.0, 15.0),
    "duplicate": (1.0, 5.0),
    "reorder": (1.0, 4.0),
    "fragment": (1.0, 4.0),
    "torn-frame": (1.0, 3.0),
    "bad-utf8": (1.0, 3.0),
    "unknown-field": (1.0, 3.0),
    "unknown-enum": (1.0, 3.0),
    "type-change": (1.0, 3.0),
    "zero-checksum": (1.0, 3.0),
    "mute-after-ack": (1.0, 8.0),
    "never-ack": (1.0, 8.0),
    "slow-drip": (2.0, 8.0),
    "refuse-429": (1.0, 5.0),
    "rate-3001": (1.0, 5.0),
    "lifetime-cut": (6.0, 12.0),
    "burst-100x": (0.1, 0.3),
    "clock-jump": (-3600.0, 3600.0),
    "seq-reset": (0.0, 0.0),
}
"""Mishaps that the venue's own machine makes, and the least and greatest value."""
OF_CONSUMER = {"slow-consumer": (2.0, 10.0)}
OF_PROCESS = {"memory": (3.0, 12.0)}
"""Mishaps of the gateway's own process. They have a chance of their own, so that the seeds without them stay what they were."""
MEMORY_SHARE = 0.3
ALL = {**OF_NETWORK, **OF_VENUE, **OF_CONSUMER}


class Mishap(Struct, frozen=True):
    """Something goes wrong at a venue (`where`), for a consumer (its number) or a symbol; `value` is mostly seconds."""

    at_s: float
    name: str
    where: int
    value: float = 0.0
    symbol: int = -1

    def __str__(self) -> str:
        place = f"consumer-{self.where}" if self.name in OF_CONSUMER else VENUES[self.where]
        place = "process" if self.name in OF_PROCESS else place
        symbol = f":{self.symbol}" if self.symbol >= 0 else ""
        return f"{place} {self.name}@{self.at_s:g}s{symbol}" + (f"={self.value:g}" if self.value else "")


class VenuePlan(Struct, frozen=True):
    """One venue. `rate` is messages per second in total; delays in ms; `per_connection` symbols share a connection (0 all)."""

    rate: float
    channels: tuple[str, ...]
    depth: int
    profile: tuple[float, float]
    base_ms: float
    jitter_ms: float
    ahead_ms: float
    per_connection: int
    lines: int


class ConsumerPlan(Struct, frozen=True):
    """One consumer: how it wants its events, and how long it takes over each batch, ms."""

    mode: str
    value: float
    bound: int
    depth: int
    channels: tuple[str, ...]
    service_ms: float
    most: int


class Scenario(Struct, frozen=True):
    """Everything that a seed decides."""

    seed: int
    venues: tuple[VenuePlan, ...]
    consumers: tuple[ConsumerPlan, ...]
    mishaps: tuple[Mishap, ...]
    storm_s: float
    checkpoint_share: float


def draw(seed: int) -> Scenario:
    """The scenario of a seed."""
    random = Random(f"{seed}:scenario")
    storm = round(random.uniform(*STORM_S), 3)
    second = Random(f"{seed}:lines")
    venues = tuple(_venue(index, random, 2 if second.random() < LINES_SHARE else 1) for index in range(len(VENUES)))
    consumers = tuple(_consumer(random, number) for number in range(3 + int(random.random() * 2)))
    names = sorted(ALL)
    enabled = random.sample(names, 3 + int(random.random() * (len(names) - 3)))
    count = MISHAPS_MIN + int(random.random() * 8)
    drawn = sorted((_mishap(random, enabled, storm, len(consumers)) for _ in range(count)), key=lambda m: m.at_s)
    mishaps = [_once(mishap, drawn[:place]) for place, mishap in enumerate(drawn)]
    mishaps += _pressed(Random(f"{seed}:memory"), storm)
    return Scenario(seed, venues, consumers, tuple(mishaps), storm, round(random.random(), 4))


def _pressed(random: Random, storm: float) -> list[Mishap]:
    """Memory that is short for a while, at some time of the storm."""
    if random.random() >= MEMORY_SHARE:
        return []
    return [
        Mishap(round(random.uniform(2.0, storm - 4.0), 3), "memory", 0, round(random.uniform(*OF_PROCESS["memory"]), 2))
    ]


def _once(mishap: Mishap, before: list[Mishap]) -> Mishap:
    """Numbers that begin anew a second time may repeat those of the first, and then nothing can tell them apart: another mishap instead."""
    again = any((one.name, one.where) == ("seq-reset", mishap.where) for one in before)
    return Mishap(mishap.at_s, "close-1006", mishap.where) if again and mishap.name == "seq-reset" else mishap


def _venue(index: int, random: Random, lines: int) -> VenuePlan:
    channels = ["book"]
    if random.random() < 0.8:
        channels.append("trade")
    if random.random() < 0.25:
        channels.append("quote")
    depth = random.choice((10, 25, 100)) if VENUES[index] == "kraken" else 0
    far = random.random() < 0.3
    return VenuePlan(
        rate=round(random.uniform(10, 32), 1),
        channels=tuple(channels),
        depth=depth,
        profile=random.choice(PROFILES),
        base_ms=round(random.uniform(40, 120) if far else random.uniform(0.2, 10), 2),
        jitter_ms=round(random.uniform(0, 60) if far else random.uniform(0, 5), 2),
        ahead_ms=round(random.choice((0.0, random.uniform(-500, 500), random.uniform(-60_000, 60_000))), 1),
        per_connection=random.choice((0, 0, 0, 3)),
        lines=lines,
    )


def _consumer(random: Random, number: int) -> ConsumerPlan:
    mode = random.choice(("drop_oldest", "drop_newest", "conflate", "max_age", "disconnect"))
    value = {"conflate": random.choice((0.0, 50.0, 250.0)), "max_age": random.choice((0.2, 1.0))}.get(mode, 0.0)
    channels = ("book_delta" if random.random() < 0.5 else "book", "trade", "quote")
    slow = random.random() < 0.3
    return ConsumerPlan(
        mode, value, random.choice((5, 20, 100, 1000)), random.choice((0, 5, 10)), channels,
        round(random.uniform(20, 120) if slow else random.uniform(0.1, 5), 2), random.choice((1, 10, 100)),
    )  # fmt: skip


def _mishap(random: Random, enabled: list[str], storm: float, consumers: int) -> Mishap:
    name = random.choice(enabled)
    low, high = ALL[name]
    value = round(random.uniform(low, high), 2)
    if name in OF_FRAMES:
        value = float(round(value))
    at = round(random.uniform(2.0, storm - 1.0), 3)
    where = int(random.random() * (consumers if name in OF_CONSUMER else len(VENUES)))
    symbol = int(random.random() * 6) if name in OF_SYMBOLS and random.random() < 0.7 else -1
    return Mishap(at, name, where, value, symbol)

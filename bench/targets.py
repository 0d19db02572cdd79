"""The targets of PERFORMANCE.md section 6, and the figures of sections 1 and 3 that a baseline must come near to.

A target is met by `ratio` (how many times better ours is than the other side) or by `a` (our own figure).
"""

from dataclasses import dataclass
from typing import Literal

Rule = Literal["ratio >=", "a <=", "a >="]


@dataclass(frozen=True)
class Target:
    """One line of the table."""

    key: str
    what: str
    unit: str
    rule: Rule
    target: float
    stretch: float | None = None
    lower_is_better: bool = False
    rss_mb: float | None = None  # a second condition, where the table has one
    wished: bool = False  # the whole line is a stretch: not reaching it is no miss

    def ratio(self, a: float, b: float) -> float:
        """How many times better `a` is than `b`: above 1 ours is the better one, whatever the unit."""
        return b / a if self.lower_is_better else a / b

    def reached(self, a: float, ratio: float, bound: float) -> bool:
        """Whether a bound of the table holds."""
        if self.rule == "ratio >=":
            return ratio >= bound
        return a <= bound if self.rule == "a <=" else a >= bound


def _delay(key: str, what: str, target: float, stretch: float, rss_mb: float) -> Target:
    return Target(key, what, "ms p99", "a <=", target, stretch, lower_is_better=True, rss_mb=rss_mb)


def _router(consumers: int, target: float, stretch: float) -> Target:
    what = f"router: one event to {consumers} consumer{'s'[: consumers > 1]}"
    return Target(f"router_{consumers}", what, "ns per consumer", "a <=", target, stretch, lower_is_better=True)


def _fan_out(clients: int) -> Target:
    return Target(
        f"fanout_{clients}", f"fan-out to {clients:,} clients vs websockets", "deliveries/cpu-s", "ratio >=", 1.4
    )


TARGETS: dict[str, Target] = {
    target.key: target
    for target in (
        Target("path_vs_go_gateway", "whole path vs founding Go gateway", "msg/cpu-s", "ratio >=", 3),
        Target("path_vs_python_client", "whole path vs founding Python client", "msg/cpu-s", "ratio >=", 4),
        Target("path_vs_best_go", "whole path vs best Go, which does less", "msg/cpu-s", "ratio >=", 1, wished=True),
        Target(
            "book_vs_cryptofeed", "book deltas vs cryptofeed", "us per message", "ratio >=", 2, 4, lower_is_better=True
        ),
        _delay("tier_100", "100 symbols, 312 msg/s", 1.0, 0.3, 60),
        _delay("tier_500", "500 symbols, 1,847 msg/s", 1.0, 0.3, 80),
        _delay("tier_1000", "1,000 symbols, 3,412 msg/s", 1.0, 0.3, 120),
        _delay("tier_10x", "1,000 symbols, 34,000 msg/s", 5.0, 0.3, 120),
        Target("burst", "bursts of 500 at 35k/s vs best Go", "ms p99", "ratio >=", 1, 2, lower_is_better=True),
        _router(1, 150, 100),
        _router(10, 90, 60),
        _router(100, 70, 40),
        _fan_out(100),
        _fan_out(1000),
        _fan_out(5000),
        Target("idle_connection_kb", "memory of an idle connection", "kB", "a <=", 30, 15, lower_is_better=True),
        Target("replay", "replay of captured Binance frames", "frames/s per core", "a >=", 150_000, 300_000),
    )
}

# msg/cpu-s at 5, 10 and 20 levels (section 1). A baseline under half of its figure voids the ratio.
SECTION_1: dict[str, dict[int, float]] = {
    "founding_client": {5: 56_000, 10: 49_000, 20: 39_000},
    "founding_gateway": {5: 126_000, 10: 72_000, 20: 38_000},
    "best_go": {5: 516_000, 10: 324_000, 20: 201_000},
    "floor": {5: 550_000, 10: 441_000, 20: 278_000},
}

# Microseconds per book message of cryptofeed that can be compared with section 3 as we count (see README.md).
SECTION_3 = {"kraken_v1": 5.0}


def void(name: str, levels: int, msg_per_cpu_s: float) -> str | None:
    """Why a baseline's figure voids its ratio, or None."""
    wanted = SECTION_1[name][levels]
    if msg_per_cpu_s >= wanted / 2:
        return None
    return f"{name} at {levels} levels: {msg_per_cpu_s:,.0f} msg/cpu-s, under half of the {wanted:,.0f} of section 1"

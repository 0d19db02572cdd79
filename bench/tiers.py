"""Delay from socket to consumer: the founding tiers, ten times the heaviest of them, and bursts."""

from collections.abc import Sequence
from statistics import median
from typing import Any

from bench import contest, results
from bench.contest import Contestant, Load, Run
from bench.targets import TARGETS

LEVELS = 5
TIERS = {"tier_100": (100, 312), "tier_500": (500, 1_847), "tier_1000": (1_000, 3_412), "tier_10x": (1_000, 34_000)}
BURST, BURST_RATE, BURST_SYMBOLS, BURST_S = 500, 35_000, 100, 3.0


def measure(ours: Contestant, other: Contestant, rounds: int, seconds: float) -> dict[str, results.Entry]:
    """One entry per tier; the other side is measured for comparison, the target is absolute."""
    entries = {}
    for key, (symbols, rate) in TIERS.items():
        load = Load(LEVELS, symbols, max(BURST, int(rate * seconds)), rate, delay=True)
        figures = delays(key, [ours, other], load, rounds)
        entries[key] = _entry(key, figures[ours.name], figures[other.name], other.says, {"seconds": seconds, **figures})
    return entries


def measure_burst(ours: Contestant, other: Contestant, rounds: int) -> dict[str, results.Entry]:
    """Bursts against the best Go in the same run."""
    figures = delays("burst", [ours, other], burst_load(), rounds)
    detail = {"seconds": BURST_S, **figures}
    return {"burst": _entry("burst", figures[ours.name], figures[other.name], other.says, detail)}


def burst_load() -> Load:
    """Bursts of 500 at 35,000 a second on average."""
    return Load(LEVELS, BURST_SYMBOLS, int(BURST_RATE * BURST_S) // BURST * BURST, BURST_RATE, BURST, delay=True)


def delays(what: str, contestants: Sequence[Contestant], load: Load, rounds: int) -> dict[str, Any]:
    """Medians over the rounds of each contestant's percentiles."""
    runs = contest.rounds(contestants, load, rounds)
    figures = {name: _medians(of) for name, of in runs.items()}
    for name, of in figures.items():
        late = f", sender late {of['sender_late_1ms']}x" if of["sender_late_1ms"] else ""
        print(
            f"  {what}: {name} p50 {of['p50_us']:.0f} us, p99 {of['p99_us']:.0f} us, max {of['max_us']:.0f} us, "
            f"{of['rss_mb']:.0f} MB, lost {of['lost']}{late}",
            flush=True,
        )
    return figures


def _medians(runs: list[Run]) -> dict[str, Any]:
    kept = [run["delay_us"] for run in runs if run["delay_us"]]
    if not kept:
        raise contest.Failed("a receiver printed no delays")
    figures: dict[str, Any] = {f"{name}_us": median(of[name] for of in kept) for name in ("p50", "p99", "max")}
    figures["rss_mb"] = round(max(run["rss_mb"] for run in runs), 1)
    figures["lost"] = max(run["lost"] for run in runs)
    figures["cpu_share"] = round(median(run["cpu_s"] / run["seconds"] for run in runs), 3)
    figures["sender_late_1ms"] = max(run["sender"]["late_1ms"] for run in runs)
    return figures


def _entry(key: str, mine: Run, theirs: Run, says: str, detail: dict[str, Any]) -> results.Entry:
    broken = [f"lost {mine['lost']} frames"] if mine["lost"] else []
    bound = TARGETS[key].rss_mb
    if bound is not None and mine["rss_mb"] >= bound:
        broken.append(f"RSS {mine['rss_mb']:.0f} MB, target under {bound:.0f}")
    return results.entry(key, mine["p99_us"] / 1000, theirs["p99_us"] / 1000, says, detail, broken)

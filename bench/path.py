"""The whole path at full speed: ours, the founding client, the founding gateway and the best Go on the same frames."""

from collections.abc import Sequence
from statistics import geometric_mean, median
from typing import Any

from bench import contest, results, targets
from bench.contest import Contestant, Load, Run

LEVELS = (5, 10, 20)
SYMBOLS = 20
KEYS = {
    "founding_client": "path_vs_python_client",
    "founding_gateway": "path_vs_go_gateway",
    "best_go": "path_vs_best_go",
}


def measure(
    ours: Contestant, others: Sequence[Contestant], rounds: int, scale: float = 1.0
) -> dict[str, results.Entry]:
    """One entry for each other side: geometric means over the levels of the medians of the rounds."""
    figures = figures_by_level([ours, *others], rounds, scale)
    mine = geometric_mean([figures[levels][ours.name]["msg_per_cpu_s"] for levels in LEVELS])
    lost = [f"ours lost {figures[levels][ours.name]['lost']} frames at {levels} levels"
            for levels in LEVELS if figures[levels][ours.name]["lost"]]  # fmt: skip
    entries = {}
    for other in others:
        theirs = geometric_mean([figures[levels][other.name]["msg_per_cpu_s"] for levels in LEVELS])
        detail = {str(levels): {name: figures[levels][name] for name in (ours.name, other.name)} for levels in LEVELS}
        reasons = [targets.void(other.name, levels, figures[levels][other.name]["msg_per_cpu_s"]) for levels in LEVELS]
        made = results.entry(KEYS[other.name], mine, theirs, other.says, {"rounds": rounds, "levels": detail}, lost)
        entries[KEYS[other.name]] = results.voided(made, [reason for reason in reasons if reason])
    return entries


def figures_by_level(contestants: Sequence[Contestant], rounds: int, scale: float = 1.0) -> dict[int, dict[str, Any]]:
    """Medians by level and contestant."""
    figures = {}
    for levels in LEVELS:
        runs = contest.rounds(contestants, Load(levels, SYMBOLS, 0), rounds, scale)
        figures[levels] = {name: _medians(of) for name, of in runs.items()}
        print(f"  {levels:>2} levels: {_said(figures[levels])}", flush=True)
    return figures


def _medians(runs: list[Run]) -> dict[str, Any]:
    rates = [run["msg_per_cpu_s"] for run in runs]
    return {
        "msg_per_cpu_s": median(rates),
        "lowest": min(rates),
        "highest": max(rates),
        "lost": max(run["lost"] for run in runs),
        "rss_mb": round(max(run["rss_mb"] for run in runs), 1),
    }


def _said(figures: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {of['msg_per_cpu_s']:,.0f}" + (f" (lost {of['lost']})" if of["lost"] else "")
        for name, of in figures.items()
    )

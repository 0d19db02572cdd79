"""`python -m bench [VERB ...]`: measure, print the table of targets, write bench/results/latest.json.

Without a verb everything that this machine can measure is measured; what it cannot is named with the reason. `build`
only builds; `baselines` shows the baselines alone, against the figures of PERFORMANCE.md section 1, and writes nothing.
"""

import argparse
import sys
from collections.abc import Callable

from bench import baselines_alone, build, contest, fanout, idle, machine, offline, path, results, tiers
from bench.table import table

VERBS = ("path", "tiers", "burst", "book", "router", "fanout", "idle", "replay")
QUICK_SCALE, QUICK_TIER_S = 0.2, 2.0

Measured = dict[str, results.Entry]


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="measure truetape beside its baselines")
    parser.add_argument("verbs", nargs="*", metavar="VERB", help=f"{' '.join(VERBS)}; or build, baselines")
    parser.add_argument("--go", action="store_true", help="path, burst and fanout, and fail where Go cannot be built")
    parser.add_argument("--cryptofeed", action="store_true", help="book, and make cryptofeed's environment first")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds of every comparison (5)")
    parser.add_argument("--tier-rounds", type=int, default=1, help="rounds of the tiers, which are long (1)")
    parser.add_argument("--tier-seconds", type=float, default=10.0, help="seconds of each tier (10)")
    parser.add_argument("--quick", action="store_true", help="one short round of everything; writes nothing")
    parser.add_argument("--stand-in", metavar="MODULE", help="a receiver in place of ours; writes nothing")
    chosen = parser.parse_args()
    unknown = sorted(set(chosen.verbs) - {*VERBS, "build", "baselines"})
    if unknown:
        parser.error(f"unknown verbs: {' '.join(unknown)}")
    if chosen.quick:
        chosen.rounds, chosen.tier_seconds = 1, QUICK_TIER_S
    return chosen


def wanted(chosen: argparse.Namespace) -> list[str]:
    """Which measurements were asked for, in the order of the table."""
    verbs = set(chosen.verbs)
    verbs |= {"path", "burst", "fanout"} if chosen.go else set()
    verbs |= {"book"} if chosen.cryptofeed else set()
    return [verb for verb in VERBS if verb in verbs] if verbs else list(VERBS)


def measure_path(chosen: argparse.Namespace) -> Measured:
    """Ours against the founding client and, where Go is, the founding gateway and the best Go."""
    go = [contest.go_baseline("founding_gateway"), contest.go_baseline("best_go")]
    others = [contest.founding_client(), *[other for other in go if other]]
    return path.measure(contest.ours(chosen.stand_in), others, chosen.rounds, QUICK_SCALE if chosen.quick else 1.0)


def measure_tiers(chosen: argparse.Namespace) -> Measured:
    """Ours at the founding tiers, the founding client beside it."""
    ours, client = contest.ours(chosen.stand_in), contest.founding_client()
    return tiers.measure(ours, client, chosen.tier_rounds, chosen.tier_seconds)


def measure_burst(chosen: argparse.Namespace) -> Measured:
    """Bursts against the best Go; no Go, no figure."""
    best = contest.go_baseline("best_go")
    return tiers.measure_burst(contest.ours(chosen.stand_in), best, chosen.rounds) if best else {}


def measure_book(chosen: argparse.Namespace) -> Measured:
    """The offline book path against cryptofeed; no environment, no figure."""
    command = build.cryptofeed(make=chosen.cryptofeed)
    return offline.measure_book(command, chosen.rounds) if command else {}


MEASURES: dict[str, Callable[[argparse.Namespace], Measured]] = {
    "path": measure_path,
    "tiers": measure_tiers,
    "burst": measure_burst,
    "book": measure_book,
    "router": lambda chosen: offline.measure_router(chosen.rounds),
    "fanout": lambda chosen: fanout.measure(min(3, chosen.rounds)),
    "idle": lambda _chosen: idle.measure(),
    "replay": lambda chosen: offline.measure_replay(chosen.rounds),
}


def measure(chosen: argparse.Namespace) -> tuple[Measured, list[str]]:
    """Everything wanted; a part that fails is told and the others go on."""
    measured: Measured = {}
    failed: list[str] = []
    for verb in wanted(chosen):
        print(f"{verb}:", flush=True)
        try:
            measured |= MEASURES[verb](chosen)
        except contest.Failed as error:
            failed.append(f"{verb}: {error}")
            print(f"  FAILED {error}", flush=True)
    return measured, failed


def missing() -> list[str]:
    """What could not be built here, and so was left out."""
    return [f"{name}: {why}" for name, why in build.MISSING.items()]


def build_all() -> int:
    """Build everything; 1 when something could not be."""
    build.sender()
    for name in ("founding_gateway", "best_go", "gorilla_fanout"):
        build.go(name)
    build.cryptofeed(make=True)
    for line in missing():
        print(f"missing: {line}")
    return 1 if build.MISSING else 0


def conclude(chosen: argparse.Namespace, conditions: str, measured: Measured, failed: list[str]) -> int:
    """Write, print the table, tell what is missing; the exit code."""
    sender = "python" if "sender" in build.MISSING else "c"
    measured = {key: made | {"machine": conditions, "sender": sender} for key, made in measured.items()}
    keep = bool(measured) and not (chosen.quick or chosen.stand_in)
    print()
    print(table(results.write(measured) if keep else measured, set(measured)))
    for line in missing():
        print(f"missing: {line}")
    for line in failed:
        print(f"failed: {line}")
    print(f"written: {results.LATEST.relative_to(contest.ROOT) if keep else 'nothing'}")
    insisted = {"founding_gateway", "best_go", "gorilla_fanout"} if chosen.go else set()
    insisted |= {"cryptofeed"} if chosen.cryptofeed else set()
    return 1 if failed or insisted & set(build.MISSING) else 0


def main() -> int:
    """Run what was asked for."""
    chosen = options()
    conditions = machine.described()
    print(
        f"machine: {conditions}; receiver on core {machine.RECEIVER_CORE}, sender on {machine.SENDER_CORE}", flush=True
    )
    if "build" in chosen.verbs:
        return build_all()
    if "baselines" in chosen.verbs:
        return baselines_alone.show(chosen.rounds)
    return conclude(chosen, conditions, *measure(chosen))


if __name__ == "__main__":
    sys.exit(main())

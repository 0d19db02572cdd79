"""The benches without a socket: book deltas against cryptofeed, the router's fan-out, replay at full speed."""

import sys
from collections.abc import Sequence
from statistics import geometric_mean, median

from bench import contest, results
from bench.contest import Run
from bench.targets import SECTION_3, TARGETS

BOOK_VENUES = ("binance_usdm", "kraken_v1", "okx_v5")  # the mean is over these; other captures are shown beside
FAN_OUTS = (1, 10, 100)
LIMIT_S = 120.0


def module(name: str) -> list[str]:
    """The command of a module in this interpreter's environment."""
    return [sys.executable, "-m", name]


def measure_book(cryptofeed: Sequence[str], rounds: int) -> dict[str, results.Entry]:
    """Microseconds of CPU per book message, ours and cryptofeed's, over the same captures."""
    mine, theirs = _interleaved([module("bench.ours_offline"), cryptofeed], ["ours", "cryptofeed"], rounds)
    captures = {
        venue: {"ours": _us(mine, venue), "cryptofeed": _us(theirs, venue)} for venue in theirs[0] if venue in mine[0]
    }
    for venue, of in captures.items():
        print(f"  {venue}: ours {of['ours']:.2f} us per message, cryptofeed {of['cryptofeed']:.2f}", flush=True)
    a = geometric_mean([captures[venue]["ours"] for venue in BOOK_VENUES])
    b = geometric_mean([captures[venue]["cryptofeed"] for venue in BOOK_VENUES])
    made = results.entry("book_vs_cryptofeed", a, b, "cryptofeed 2.4.1", {"rounds": rounds, "captures": captures})
    slow = [f"cryptofeed on {venue}: {captures[venue]['cryptofeed']} us, over twice the {us} of section 3"
            for venue, us in SECTION_3.items() if captures[venue]["cryptofeed"] > 2 * us]  # fmt: skip
    return {"book_vs_cryptofeed": results.voided(made, slow)}


def measure_router(rounds: int) -> dict[str, results.Entry]:
    """Nanoseconds per consumer and event, ours and one asyncio.Queue per consumer."""
    mine, theirs = _interleaved(
        [module("bench.router"), module("bench.baselines.queues")], ["router", "queues"], rounds
    )
    entries = {}
    for consumers in FAN_OUTS:
        key = f"router_{consumers}"
        a, b = (median(run[str(consumers)]["ns_per_consumer"] for run in runs) for runs in (mine, theirs))
        broken = [] if all(run[str(consumers)]["ledger_exact"] for run in mine) else ["the ledger did not balance"]
        entries[key] = results.entry(key, a, b, "asyncio.Queue each", {"rounds": rounds}, broken)
        print(f"  {consumers} consumers: ours {a:.0f} ns per consumer, asyncio.Queue {b:.0f}", flush=True)
    return entries


def measure_replay(rounds: int) -> dict[str, results.Entry]:
    """Frames per CPU-second through the pump; there is no other side but the target."""
    runs = [contest.report(module("bench.replay"), LIMIT_S, "replay") for _ in range(rounds)]
    a = median(run["frames"] / run["cpu_s"] for run in runs)
    print(f"  replay: {a:,.0f} frames/s per core, {runs[0]['frames']:,} frames", flush=True)
    broken = [] if len({run["digest"] for run in runs}) == 1 else ["two replays of one capture had different digests"]
    detail = {"rounds": rounds, "frames": runs[0]["frames"], "digest": runs[0]["digest"]}
    return {"replay": results.entry("replay", a, TARGETS["replay"].target, "(the target)", detail, broken)}


def _interleaved(commands: Sequence[Sequence[str]], names: Sequence[str], rounds: int) -> list[list[Run]]:
    runs: list[list[Run]] = [[] for _ in commands]
    for _ in range(rounds):
        for of, command, name in zip(runs, commands, names, strict=True):
            of.append(contest.report(command, LIMIT_S, name))
    return runs


def _us(runs: list[Run], venue: str) -> float:
    return float(round(median(run[venue]["us_per_message"] for run in runs), 3))

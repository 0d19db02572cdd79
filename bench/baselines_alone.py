"""The baselines without ours: are they themselves on this machine? Figures beside PERFORMANCE.md section 1."""

from bench import build, contest, path, tiers
from bench.contest import Contestant
from bench.targets import SECTION_1, void


def contestants() -> list[Contestant]:
    """The floor, the founding client and what Go can be built."""
    go = [contest.go_baseline("founding_gateway"), contest.go_baseline("best_go")]
    return [contest.floor(), contest.founding_client(), *[other for other in go if other]]


def show(rounds: int) -> int:
    """Print the figures; 1 when a baseline is under half of its own."""
    every = contestants()
    bad = []
    print("path, msg/cpu-s:")
    for levels, figures in path.figures_by_level(every, rounds).items():
        for name, of in figures.items():
            share = of["msg_per_cpu_s"] / SECTION_1[name][levels]
            print(f"    {name:<17} {of['msg_per_cpu_s']:>9,.0f}  {share:.0%} of section 1, {of['rss_mb']:.0f} MB")
            bad += [why for why in [void(name, levels, of["msg_per_cpu_s"])] if why]
    print("bursts of 500 at 35k/s:")
    tiers.delays("burst", every, tiers.burst_load(), rounds)
    cryptofeed = build.cryptofeed(make=False)
    if cryptofeed:
        print("cryptofeed, us per book message:")
        for venue, of in contest.report(cryptofeed, 120, "cryptofeed").items():
            print(f"    {venue:<17} {of['us_per_message']:>9.2f}  {of['messages']} messages, {of['passes']} passes")
    for line in [*bad, *[f"missing: {name}: {why}" for name, why in build.MISSING.items()]]:
        print(line)
    return 1 if bad else 0

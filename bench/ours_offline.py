"""Ours, the book path offline: the captures that cryptofeed is fed with, through the whole pump.

Not written yet. It prints the line of `bench/baselines/cryptofeed_offline.py`; README.md ("The offline benches") says
which frames count and what is inside the clock.
"""


def main() -> None:
    """Say that there is nothing to measure yet."""
    raise SystemExit("bench.ours_offline is not written yet")


if __name__ == "__main__":
    main()

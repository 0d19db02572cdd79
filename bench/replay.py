"""Ours, replay: a captured Binance file through the pump at full speed.

Not written yet. README.md ("The offline benches") says what the one JSON line holds.
"""


def main() -> None:
    """Say that there is nothing to measure yet."""
    raise SystemExit("bench.replay is not written yet")


if __name__ == "__main__":
    main()

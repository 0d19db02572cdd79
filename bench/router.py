"""Ours, the router: one event to 1, 10 and 100 consumers, with an exact ledger.

Not written yet. README.md ("The offline benches") says what the one JSON line holds.
"""


def main() -> None:
    """Say that there is nothing to measure yet."""
    raise SystemExit("bench.router is not written yet")


if __name__ == "__main__":
    main()

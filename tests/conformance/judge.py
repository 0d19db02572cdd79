"""What the suite's report says: `python -m tests.conformance.judge index.json [cases that may fail…]`; exit 1 for any other failure."""

import json
import sys
from collections import Counter
from pathlib import Path

FINE = ("OK", "NON-STRICT", "INFORMATIONAL")


def main(report: str, *known: str) -> int:
    """Print the counts and the failures."""
    cases = json.loads(Path(report).read_text())["truetape"]
    print(len(cases), "cases:", dict(Counter(case["behavior"] for case in cases.values())))
    failed = {
        name: (case["behavior"], case["behaviorClose"])
        for name, case in cases.items()
        if case["behavior"] not in FINE or case["behaviorClose"] not in FINE
    }
    for name, how in failed.items():
        print(name, *how, "(known)" if name in known else "")
    return 1 if not cases or set(failed) - set(known) else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

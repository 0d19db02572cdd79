"""What the suite's reports say, as a table: `python -m tests.conformance.judge DIR AGENT… [-- cases that may fail…]`.

Exit 1 for any other failure, and where an agent has no report.
"""

import json
import sys
from collections import Counter
from pathlib import Path

FINE = ("OK", "NON-STRICT", "INFORMATIONAL")


def main(folder: str, *named: str) -> int:
    """Print a row for each side, and each failure."""
    agents, known = (named[: named.index("--")], named[named.index("--") + 1 :]) if "--" in named else (named, ())
    print(f"{'side':<10}{'cases':>8}{'OK':>8}{'non-strict':>12}{'inform.':>9}{'failed':>8}")
    code = 0
    wrong = []
    for agent in agents:
        index = Path(folder) / agent / "index.json"
        cases = json.loads(index.read_text()).get(agent, {}) if index.exists() else {}
        counts = Counter(case["behavior"] for case in cases.values())
        failed = {
            name: (case["behavior"], case["behaviorClose"])
            for name, case in cases.items()
            if case["behavior"] not in FINE or case["behaviorClose"] not in FINE
        }
        row = (len(cases), counts["OK"], counts["NON-STRICT"], counts["INFORMATIONAL"], len(failed))
        print("{:<10}{:>8}{:>8}{:>12}{:>9}{:>8}".format(agent, *row))
        wrong += [f"{agent} {name}: {' '.join(how)}{' (known)' * (name in known)}" for name, how in failed.items()]
        if not cases or set(failed) - set(known):
            code = 1
    print("\n".join(wrong) or "no failure")
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

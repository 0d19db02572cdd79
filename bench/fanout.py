"""Fan-out: one message to many WebSocket clients, ours beside `websockets`' broadcast.

The clients live in a process of their own (`bench.fanout_clients`), on the sender's core; only the server's CPU is counted. Ours is a whole
gateway (tokens off), whose router is published to directly: one message per turn of the loop, and with a window of 5 ms.
"""

import json
import sys
from statistics import median

from bench import contest, results
from bench.contest import Run

CLIENTS = (100, 1000, 5000)
DELIVERIES = 300_000
LIMIT_S = 120.0


def server(how: str, clients: int, deliveries: int = DELIVERIES) -> Run:
    """One run of one server: deliveries per CPU-second."""
    command = [sys.executable, "-m", "bench.fanout_server", how, str(clients), str(deliveries)]
    return contest.report(command, LIMIT_S, f"{how} {clients}")


def measure(rounds: int) -> dict[str, results.Entry]:
    """One entry for each width."""
    entries = {}
    for clients in CLIENTS:
        runs: dict[str, list[Run]] = {"ours": [], "window": [], "websockets": []}
        for _ in range(rounds):
            for how, of in runs.items():
                of.append(server(how, clients))
        a, window, b = (median(run["per_cpu_s"] for run in of) for of in runs.values())
        broken = [f"{how} lost {run['lost']} messages" for how, of in runs.items() for run in of if run["lost"]]
        detail = {"rounds": rounds, "window_5ms": round(window), "window_5ms_ratio": round(window / b, 2)}
        print(
            f"  {clients} clients: ours {a:,.0f} deliveries/cpu-s, with 5 ms {window:,.0f}, websockets {b:,.0f}",
            flush=True,
        )
        entries[f"fanout_{clients}"] = results.entry(f"fanout_{clients}", a, b, "websockets broadcast", detail, broken)
    return entries


if __name__ == "__main__":
    print(json.dumps(measure(1), indent=2))

"""Fan-out: one message to many WebSocket clients, ours beside `websockets`' broadcast and gorilla's.

The clients live in a process of their own (`bench.fanout_clients`), on the sender's core; only the server's CPU is counted. Ours is a whole
gateway (tokens off), whose router is published to directly: one message per turn of the loop, and with a window of 5 ms.
"""

import json
import sys
from statistics import median

from bench import build, contest, results
from bench.contest import Run

CLIENTS = (100, 1000, 5000)
DELIVERIES = 300_000
LIMIT_S = 120.0
OURS = ("ours", "window")


def server(how: str, clients: int, deliveries: int = DELIVERIES) -> Run:
    """One run of one server: deliveries per CPU-second."""
    command = [sys.executable, "-m", "bench.fanout_server", how, str(clients), str(deliveries)]
    return contest.report(command, LIMIT_S, f"{how} {clients}")


def measure(rounds: int) -> dict[str, results.Entry]:
    """One entry for each width."""
    entries = {}
    others = ["websockets", "websockets_asyncio", *(["gorilla"] if build.go("gorilla_fanout") else [])]
    for clients in CLIENTS:
        runs: dict[str, list[Run]] = {how: [] for how in ("ours", "window", *others)}
        for _ in range(rounds):
            for how, of in runs.items():
                of.append(server(how, clients))
        rates = {how: median(run["per_cpu_s"] for run in of) for how, of in runs.items()}
        ours, theirs = rates["ours"], rates["websockets"]
        print(f"  {clients} clients: " + ", ".join(f"{how} {rate:,.0f}" for how, rate in rates.items()), flush=True)
        broken = [
            f"{how} lost {run['lost']} messages" for how in runs if how in OURS for run in runs[how] if run["lost"]
        ]
        detail = {
            "rounds": rounds,
            "window_5ms": round(rates["window"]),
            "window_5ms_ratio": round(rates["window"] / theirs, 2),
            "each": {how: [round(run["per_cpu_s"]) for run in of] for how, of in runs.items()},
        }
        detail["websockets_asyncio_ratio"] = round(ours / rates["websockets_asyncio"], 2)
        if "gorilla" in rates:
            detail["gorilla"] = round(rates["gorilla"])
            detail["gorilla_ratio"] = round(ours / rates["gorilla"], 2)
            detail["gorilla_lost"] = sum(run["lost"] for run in runs["gorilla"])
        key = f"fanout_{clients}"
        entries[key] = results.entry(key, ours, theirs, "websockets broadcast", detail, broken)
    return entries


if __name__ == "__main__":
    print(json.dumps(measure(1), indent=2))

"""Replay at full speed: a captured Binance file through the pump, everything on, read and unpacked before the clock."""

import json
import os
import time
from pathlib import Path

from truetape.app.capture import Observer, lines

CAPTURE = "binance_usdm-btcusdt-2024-08-08"


def main() -> None:
    """One pass."""
    path = Path(os.environ.get("TRUETAPE_SHARED", "../shared")) / "data" / f"{CAPTURE}.jsonl.gz"
    rows = [(line, line.payload()) for line in lines(path)]
    observer = Observer("binance_usdm", flow=False)
    pump = observer.pump
    frames = sum(line.dir == "in" for line, _ in rows)
    began = time.process_time()
    for line, data in rows:
        if line.dir == "in":
            pump.frame(line.conn, data, line.t)
        else:
            observer.feed(line)
    digest = pump.digest.value()
    print(json.dumps({"frames": frames, "cpu_s": round(time.process_time() - began, 6), "digest": digest}))


if __name__ == "__main__":
    main()

"""Sum up trades, without an event loop: `python examples/volume_sync.py unix:run/serve.sock kraken:BTC-USD`."""

import sys

import truetape


def main(url: str, symbol: str, count: int) -> None:
    total = 0.0
    with truetape.client(url) as c:
        for event in c.subscribe(symbol, ["trade"], timeout_s=60):
            if isinstance(event, truetape.Lagged):
                print(f"{event.dropped} trades are missing here: {event.reason}")
            if isinstance(event, truetape.Trade):
                total += event.size
                print(f"{event.price} x {event.size}, {total:.8g} in all")
                count -= 1
            if not count:
                return


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else -1)

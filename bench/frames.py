"""Seeded TickDB depth frames in the documented dialect, the same for every receiver.

A frame is `{"cmd":"depth","data":{"symbol","bids":[["price","size"]...],"asks":[...],"timestamp":ms}}`, prices and
sizes as text, best level first. Two places have a fixed width, so that the sender can stamp the instant of sending
without building anything: `timestamp` (13 digits, milliseconds) and the size of the best bid, `1.nnnnnnnnn`, whose nine
decimals are the nanoseconds within that second. `sent_ns` puts the two together again: it needs no extra field, so
what carries a book to a consumer carries the stamp.

The file (little endian): `TTF1`, u32 count, then per frame u32 length, i32 offset of the milliseconds, i32 offset of
the nanoseconds, payload. Built files are kept in `bench/build`.
"""

import argparse
import random
import struct
from pathlib import Path

BUILD = Path(__file__).parent / "build"
SEED = 20261120
COUNT = 10_000  # frames in a file; the sender goes round
FIRST_MS = 1_795_132_800_000  # 2026-11-20T00:00:00Z, until a stamp replaces it


def symbols(count: int) -> list[str]:
    """The names of the symbols in a file for `count` symbols, as the venue writes them."""
    return [f"T{i:04d}USDT" for i in range(count)]


def sent_ns(timestamp_ms: int, best_bid_size: float) -> int:
    """When the sender wrote a stamped frame, in nanoseconds since 1970."""
    return timestamp_ms // 1000 * 1_000_000_000 + round(best_bid_size * 1e9) - 1_000_000_000


def frames_file(levels: int, symbol_count: int, count: int = COUNT, seed: int = SEED) -> Path:
    """The file of frames for this shape, built unless it is there."""
    path = BUILD / f"frames-{levels}x{symbol_count}-{count}-{seed}.ttf"
    if not path.exists():
        BUILD.mkdir(exist_ok=True)
        part = path.with_suffix(".part")
        part.write_bytes(b"".join(_file(levels, symbol_count, count, seed)))
        part.rename(path)
    return path


def read(path: Path) -> list[bytes]:
    """The payloads of a file, for receivers that run without a socket."""
    data = path.read_bytes()
    if data[:4] != b"TTF1":
        raise ValueError(f"{path}: expected a frames file")
    payloads, at = [], 8
    for _ in range(struct.unpack_from("<I", data, 4)[0]):
        (length,) = struct.unpack_from("<I", data, at)
        payloads.append(data[at + 12 : at + 12 + length])
        at += 12 + length
    return payloads


def _file(levels: int, symbol_count: int, count: int, seed: int) -> list[bytes]:
    chance = random.Random(f"{seed}:{levels}:{symbol_count}:{count}")
    names = symbols(symbol_count)
    mids = {name: chance.randrange(5_000, 9_000_000) for name in names}  # in ticks of 0.01
    parts = [b"TTF1" + struct.pack("<I", count)]
    for i in range(count):
        name = names[i] if i < symbol_count else chance.choice(names)
        mids[name] = max(2_000, mids[name] + chance.randint(-3, 3))
        payload, ms_at, frac_at = _frame(name, mids[name], levels, FIRST_MS + i, chance)
        parts.append(struct.pack("<Iii", len(payload), ms_at, frac_at) + payload)
    return parts


def _frame(name: str, mid: int, levels: int, ms: int, chance: random.Random) -> tuple[bytes, int, int]:
    """One frame, and where its two stamps lie."""
    bids = _side(mid - 1, -1, levels, chance)
    asks = _side(mid + 1, 1, levels, chance)
    best = bids[0].split('"')[1]
    bids[0] = f'["{best}","1.000000000"]'
    head = f'{{"cmd":"depth","data":{{"symbol":"{name}","bids":['
    frac_at = len(head) + len(f'["{best}","1.')
    body = f'{head}{",".join(bids)}],"asks":[{",".join(asks)}],"timestamp":'
    return f"{body}{ms}}}}}".encode(), len(body), frac_at


def _side(start: int, step: int, levels: int, chance: random.Random) -> list[str]:
    price, rows = start, []
    for _ in range(levels):
        rows.append(f'["{price / 100:.2f}","{chance.randrange(1, 20_000) / 1000:.3f}"]')
        price += step * chance.choice((1, 1, 1, 2, 3))
    return rows


def main() -> None:
    """Build one file and say where it is."""
    parser = argparse.ArgumentParser(description="build a file of seeded TickDB depth frames")
    parser.add_argument("--levels", type=int, default=5)
    parser.add_argument("--symbols", type=int, default=10)
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    print(frames_file(options.levels, options.symbols, options.count, options.seed))


if __name__ == "__main__":
    main()

"""`truetape replay` on tapes that a gateway wrote, and on files that are none: parts, pace, levels, and every wrong input told in words."""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import truetape
from tests.app.conftest import Simulator, last_json, run, until
from truetape.io.clock import now as clock
from truetape.io.store import reader
from truetape.model.record import Header

SECOND = 1_000_000_000


async def recorded(
    folder: Path, *simulators: Simulator, events: int = 400, segment_bytes: int = 32_768
) -> truetape.Gateway:
    """One run that ended well."""
    tree = {
        "feeds": [simulator.feed(symbols=simulator.symbols[:2]) for simulator in simulators],
        "journal": {"dir": str(folder), "segment_bytes": segment_bytes},
    }
    async with truetape.open(tree) as gateway:
        assert await gateway.ready()
        await until(gateway, lambda: sum(gateway.pump.digest.counts().values()) > events)
    return gateway


@pytest.fixture(scope="module")
def tape(
    tmp_path_factory: pytest.TempPathFactory, kraken: Simulator, binance: Simulator
) -> tuple[Path, truetape.Gateway]:
    folder = tmp_path_factory.mktemp("replay") / "tape"
    return folder, asyncio.run(recorded(folder, kraken, binance))


def replayed(*arguments: object) -> dict[str, Any]:
    done = run("replay", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    tree: dict[str, Any] = last_json(done.stdout)
    return tree


def refused(*arguments: object) -> str:
    done = run("replay", *arguments, "--json")
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def moments(folder: Path) -> list[int]:
    return [part.now for part in reader.read(folder) if not isinstance(part, Header)]


# -- a journal


async def test_the_report_has_the_fields_of_the_contract(tape: tuple[Path, truetape.Gateway]) -> None:
    folder, gateway = tape
    tree = replayed(folder)
    assert set(tree) == {
        "records",
        "frames",
        "errors",
        "ignored",
        "events",
        "books",
        "trades",
        "gaps",
        "quarantined",
        "digest",
    }
    assert tree["digest"] == gateway.pump.digest.value()
    assert tree["records"] == len(moments(folder))
    assert tree["frames"] == sum(link.counts.frames for link in gateway.pump.links.values())
    assert (tree["errors"], tree["gaps"], tree["quarantined"]) == (0, [], {})
    assert sorted(tree["books"]) == ["binance:BTCUSDT", "binance:ETHUSDT", "kraken:BTC/USDT", "kraken:ETH/USDT"]
    for book in tree["books"].values():
        assert (book["state"], len(book["bids"]), book["resyncs"]) == ("LIVE", 10, 0)
        assert book["bids"][0][0] < book["asks"][0][0]
    assert tree["books"]["kraken:BTC/USDT"]["checksums_ok"] > 10
    assert sum(row["n"] for row in tree["trades"].values()) == tree["events"]["trade"]
    for row in tree["trades"].values():
        assert row["buy"] + row["sell"] == row["n"]


async def test_levels_are_as_many_as_asked_for(tape: tuple[Path, truetape.Gateway]) -> None:
    folder, _ = tape
    full = replayed(folder, "--books", 10_000)["books"]
    for most in (0, 1, 3):
        for key, book in replayed(folder, "--books", most)["books"].items():
            assert book["bids"] == full[key]["bids"][:most]
            assert (book["n_bids"], book["n_asks"]) == (len(full[key]["bids"]), len(full[key]["asks"]))


async def test_the_same_tape_gives_the_same_answer_wherever_it_lies(
    tape: tuple[Path, truetape.Gateway], tmp_path: Path
) -> None:
    folder, _ = tape
    copy = tmp_path / "elsewhere [x]"
    shutil.copytree(folder, copy)
    assert replayed(copy) == replayed(folder)
    page = run("replay", copy)
    assert page.returncode == 0
    assert "kraken:BTC/USDT" in page.stdout
    bid, size = replayed(folder)["books"]["kraken:BTC/USDT"]["bids"][0]
    assert f" {bid} x {size} " in page.stdout, "every digit of a price"
    assert "digest " in page.stdout


async def test_a_changed_price_changes_the_digest(tape: tuple[Path, truetape.Gateway]) -> None:
    """What a frame says reaches the digest; so it is not made of counts alone."""
    from truetape.app.replay import Player

    folder, gateway = tape
    player, changed = Player(), 0
    for part in reader.read(folder):
        if isinstance(part, Header):
            if player.pump is None:
                player.begin(part)
            continue
        if not changed and type(part).__name__ == "Frame" and b'"trade"' in part.data and b'"price":' in part.data:
            at = part.data.index(b'"price":') + len(b'"price":')
            digit = part.data[at : at + 1]
            data = part.data[:at] + (b"1" if digit != b"1" else b"2") + part.data[at + 1 :]
            part, changed = type(part)(part.source, part.now, data), 1
        player.play(part)
    assert changed
    assert player.digest() != gateway.pump.digest.value()


async def test_parts_of_a_tape_add_up(tape: tuple[Path, truetape.Gateway]) -> None:
    folder, _ = tape
    times = moments(folder)
    middle = times[len(times) // 2]
    whole = replayed(folder)
    first, second = replayed(folder, "--to", middle - 1), replayed(folder, "--from", middle)
    assert first["records"] + second["records"] == whole["records"]
    assert first["events"].get("trade", 0) + second["events"].get("trade", 0) == whole["events"]["trade"]
    assert second["books"] == whole["books"], "the books were built up from before"
    assert second["digest"] != whole["digest"]
    assert replayed(folder, "--from", times[0], "--to", times[-1])["records"] == whole["records"]


async def test_moments_are_written_in_three_ways(tape: tuple[Path, truetape.Gateway]) -> None:
    folder, _ = tape
    header = next(part for part in reader.read(folder) if isinstance(part, Header))
    times = moments(folder)
    at = times[len(times) // 2]  # a slow machine may take a while to its first record
    at -= at % 1000
    iso = datetime.fromtimestamp(at // SECOND, UTC) + timedelta(microseconds=at % SECOND // 1000)
    by_ns = replayed(folder, "--to", at)
    assert by_ns["records"] == replayed(folder, "--to", iso.isoformat())["records"]
    assert by_ns["records"] == replayed(folder, "--to", iso.isoformat().replace("+00:00", ""))["records"], (
        "UTC where none is named"
    )
    assert by_ns["records"] == replayed(folder, "--to", f"+{(at - header.now) / SECOND:.9f}")["records"]


async def test_a_replay_at_twice_the_pace_takes_half_the_time(tape: tuple[Path, truetape.Gateway]) -> None:
    folder, gateway = tape
    times = moments(folder)
    began = clock()
    tree = replayed(folder, "--speed", 2)
    took = (clock() - began) / SECOND
    span = (times[-1] - times[0]) / SECOND
    assert span / 2 <= took < span / 2 + 3
    assert tree["digest"] == gateway.pump.digest.value()


async def test_a_tape_of_several_runs_answers_for_each_and_tells_what_lay_between(
    tmp_path: Path, kraken: Simulator
) -> None:
    folder = tmp_path / "tape"
    runs = [await recorded(folder, kraken, events=100) for _ in range(3)]
    digests = [gateway.pump.digest.value() for gateway in runs]
    tree = replayed(folder)
    assert tree["digest"] == digests[-1]
    assert tree["runs"] == digests
    assert sum(gap["reason"] == "the gateway was restarted" and not gap["recovered"] for gap in tree["gaps"]) >= 2
    starts = [part.now for part in reader.read(folder) if isinstance(part, Header) and not part.state]
    assert len(starts) == 3
    assert replayed(folder, "--to", starts[1] - 1)["digest"] == digests[0], (
        "the end of the first run, and not the start of the next"
    )
    assert replayed(folder, "--from", starts[2])["digest"] == digests[2]
    assert replayed(folder, "--to", starts[2] - 1)["digest"] == digests[1]


async def test_a_run_that_was_over_at_once_is_an_empty_report(tmp_path: Path, kraken: Simulator) -> None:
    folder = tmp_path / "tape"
    async with truetape.open({"feeds": [kraken.feed(url="ws://127.0.0.1:1/")], "journal": {"dir": str(folder)}}):
        pass
    tree = replayed(folder)
    assert (tree["frames"], tree["events"]) == (0, {})
    assert {book["state"] for book in tree["books"].values()} == {"SYNCING"}


async def test_a_journal_of_a_venue_file_that_is_gone_says_which(
    tape: tuple[Path, truetape.Gateway], tmp_path: Path, kraken: Simulator
) -> None:
    """A tape names the modules it was recorded with; without the module it cannot be decoded, and says so."""
    package = tmp_path / "strangers"
    package.mkdir()
    (package / "one.py").write_text("from truetape.venues.kraken import Dialect\n")
    tree = {"feeds": [kraken.feed(venue="strangers.one", name="x")], "journal": {"dir": str(tmp_path / "tape")}}
    import sys

    sys.path.insert(0, str(tmp_path))
    try:
        async with truetape.open(tree) as gateway:
            assert await gateway.ready()
    finally:
        sys.path.remove(str(tmp_path))
    said = refused(tmp_path / "tape")
    assert "strangers.one" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--speed", "fast"], "--speed: expected max or a factor above 0, found 'fast'"),
        (["--speed", "0"], "--speed"),
        (["--speed", "-1"], "--speed"),
        (["--speed", "nan"], "--speed"),
        (["--from", "yesterday"], "--from: expected ns since 1970, ISO 8601 or +seconds, found 'yesterday'"),
        (["--to", "+soon"], "--to"),
        (["--to", "+inf"], "--to"),
        (["--from", "+1e400"], "--from"),
        (["--to", "2026-13-45"], "--to"),
        (["--from", "+99999"], "--from: expected a time before the last record"),
        (["--to", "1"], "--to: expected a time after the first record"),
        (["--from", "+1", "--to", "+0.5"], "--from"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
async def test_a_wrong_range_or_pace_is_told(
    tape: tuple[Path, truetape.Gateway], options: list[str], said: str
) -> None:
    folder, _ = tape
    assert said in refused(folder, *options)


# -- a capture, and what is none

OPEN = {"t": 1_700_000_000 * SECOND, "dir": "open", "conn": "a", "url": "wss://ws.kraken.com/v2"}
FRAME = {"t": OPEN["t"] + 1, "dir": "in", "conn": "a", "data": '{"channel":"heartbeat"}'}


def capture(path: Path, *lines: object) -> Path:
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def test_a_capture_is_found_by_its_addresses_plain_or_packed(tmp_path: Path) -> None:
    for name in ("x.jsonl", "x.jsonl.gz"):
        tree = replayed(capture(tmp_path / name, OPEN, FRAME, "", FRAME))
        assert (tree["records"], tree["frames"], tree["errors"]) == (3, 2, 0)


def test_a_capture_of_an_unknown_venue_is_refused_until_it_is_named(tmp_path: Path) -> None:
    path = capture(tmp_path / "x.jsonl", {**OPEN, "url": "wss://nowhere.example"}, FRAME)
    said = refused(path)
    assert "wss://nowhere.example" in said
    assert "--venue" in said
    assert replayed(path, "--venue", "kraken")["frames"] == 1
    assert "nasdaq" in refused(path, "--venue", "nasdaq")
    assert "no URL at all" in refused(capture(tmp_path / "y.jsonl", FRAME))


def truncated(path: Path) -> None:
    capture(path, OPEN, *[FRAME] * 5000)
    path.write_bytes(path.read_bytes()[:-20])


WRONG_FILES: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "empty": ("x.jsonl", lambda path: path.write_bytes(b""), "found an empty file"),
    "empty gzip": ("x.jsonl.gz", lambda path: path.write_bytes(gzip.compress(b"")), "found an empty file"),
    "blank lines": ("x.jsonl", lambda path: path.write_bytes(b"\n\n"), "found an empty file"),
    "nothing in a gzip": ("x.jsonl.gz", lambda path: path.write_bytes(b""), "empty"),
    "truncated gzip": ("x.jsonl.gz", truncated, "cannot be read"),
    "no gzip": ("x.jsonl.gz", lambda path: path.write_bytes(b"plain text"), "cannot be read"),
    "gzip without its ending": ("x.jsonl", lambda path: path.write_bytes(gzip.compress(b"{}")), "line 1"),
    "no JSON": ("x.jsonl", lambda path: path.write_text("hello\n"), "line 1: expected a capture line"),
    "not JSON later on": (
        "x.jsonl",
        lambda path: capture(path, OPEN, FRAME, "oops"),
        "line 3: expected a capture line",
    ),
    "another JSON": ("x.jsonl", lambda path: path.write_text('{"a": 1}\n'), "line 1"),
    "a list": ("x.jsonl", lambda path: path.write_text("[1]\n"), "line 1"),
    "a text for a time": ("x.jsonl", lambda path: capture(path, {**OPEN, "t": "now"}), "line 1"),
    "a time beyond all": ("x.jsonl", lambda path: capture(path, {**OPEN, "t": 10**30}), "line 1"),
    "no time": ("x.jsonl", lambda path: capture(path, {"dir": "in"}), "line 1"),
    "bytes": ("x.jsonl", lambda path: path.write_bytes(bytes(range(256)) * 10), "line 1"),
    "half a character": (
        "x.jsonl",
        lambda path: path.write_text('{"t": 1, "dir": "in", "conn": "a", "data": "\\ud800"}\n'),
        "line 1",
    ),
    "deep": ("x.jsonl", lambda path: path.write_text("[" * 100_000 + "\n"), "line 1"),
}


@pytest.mark.parametrize("name", WRONG_FILES)
def test_a_file_that_is_no_capture_is_exit_2_and_says_where(tmp_path: Path, name: str) -> None:
    file, write, said = WRONG_FILES[name]
    path = tmp_path / file
    write(path)
    found = refused(path, "--venue", "kraken")
    assert said in found
    assert str(path) in found


def test_a_path_that_is_not_there_is_exit_2(tmp_path: Path) -> None:
    assert "found nothing" in refused(tmp_path / "absent")
    assert "expected segment files" in refused(tmp_path)
    assert "cannot be read" in refused("/proc/self/mem", "--venue", "kraken")


def test_odd_lines_of_a_capture_are_counted_and_harm_nothing(tmp_path: Path) -> None:
    odd = [
        {**FRAME, "data": "not json"},
        {**FRAME, "data": None},
        {**FRAME, "data": None, "b64": "!!!"},
        {**FRAME, "data": None, "b64": "AAAA", "enc": "gzip"},
        {**FRAME, "data": None, "b64": "AAAA", "enc": "deflate-raw"},
        {**FRAME, "conn": "[/x]"},
        {"t": FRAME["t"], "dir": "http", "url": "https://x", "data": "{}"},
        {"t": FRAME["t"], "dir": "http", "url": "https://api.kraken.com/0/public/Depth?pair=XBTUSD", "data": "\\ud800"},
        {"t": FRAME["t"], "dir": "sideways"},
        {"t": -5, "dir": "in", "conn": "a", "data": "[]"},
    ]
    for venue in ("kraken", "binance"):
        tree = replayed(capture(tmp_path / "x.jsonl", OPEN, *odd, FRAME), "--venue", venue)
        assert tree["records"] == len(odd) + 2
        assert tree["errors"] >= 5
    assert run("replay", tmp_path / "x.jsonl").returncode == 0

"""A gateway on real sockets and a real disk: what it said live is what its tape says again, whatever happened on the way."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import truetape
from tests.app.conftest import (
    WITHIN_S,
    Program,
    Simulator,
    all_live,
    last_json,
    run,
    states,
    truetape_command,
    until,
    write_config,
)
from truetape.io.clock import now as clock
from truetape.io.clock import pause
from truetape.io.serve.control import ask
from truetape.io.store import reader

SECOND = 1_000_000_000
SMALL = {"segment_bytes": 64 * 1024, "flush_ms": 5}


def config(tape: Path, *feeds: dict[str, Any], **journal: Any) -> dict[str, Any]:
    return {"feeds": list(feeds), "journal": {"dir": str(tape), **SMALL, **journal}}


def replayed(tape: Path, hash_seed: str = "random", *options: object) -> dict[str, Any]:
    done = run("replay", tape, "--json", "--books", 0, *options, env={"PYTHONHASHSEED": hash_seed})
    assert done.returncode == 0, done.stderr
    tree: dict[str, Any] = last_json(done.stdout)
    return tree


def numbers(tape: Path) -> list[int]:
    return [segment.number for segment in reader.segments(tape)]


def assert_same(gateway: truetape.Gateway, tree: dict[str, Any]) -> None:
    assert "diverged" not in tree, tree["diverged"]
    assert tree["events"] == gateway.pump.digest.counts()
    assert tree["digest"] == gateway.pump.digest.value()


def assert_same_books(gateway: truetape.Gateway, tape: Path) -> None:
    """Level for level, as they were when the gateway stopped."""
    done = run("replay", tape, "--json", "--books", 10_000)
    books = last_json(done.stdout)["books"]
    streams = {f"{s.venue}:{s.raw}": s for link in gateway.pump.links.values() for s in link.book_streams()}
    assert sorted(books) == sorted(streams)
    for key, stream in streams.items():
        assert books[key]["state"] == stream.state, key
        bids, asks = stream.sync.book.bids(), stream.sync.book.asks()
        assert (books[key]["n_bids"], books[key]["n_asks"]) == (len(bids), len(asks)), key
        assert books[key]["bids"] == [list(level) for level in bids], key
        assert books[key]["asks"] == [list(level) for level in asks], key


async def test_a_replay_has_the_digest_of_the_live_run_after_retention_removed_its_beginning(
    tmp_path: Path, kraken: Simulator, binance: Simulator, tickdb: Simulator
) -> None:
    tape = tmp_path / "tape"
    tree = config(tape, kraken.feed(), binance.feed(), tickdb.feed(), retain_bytes=512 * 1024)
    async with truetape.open(tree) as gateway:
        assert await gateway.ready()
        await until(gateway, lambda: numbers(tape)[0] > 2, what="the first segments are gone")
    assert numbers(tape)[0] > 2
    assert len(numbers(tape)) > 1
    for seed in ("0", "1"):
        assert_same(gateway, replayed(tape, seed))
    assert_same_books(gateway, tape)
    assert run("verify", tape).returncode == 0


async def test_a_lost_venue_and_its_return_are_replayed_with_their_gaps(
    tmp_path: Path, simulate: Callable[..., Simulator], binance: Simulator
) -> None:
    tape = tmp_path / "tape"
    first = simulate("kraken")
    feeds = [first.feed(), binance.feed()]
    notices: list[truetape.Gap | truetape.Status] = []
    async with truetape.open(config(tape, *feeds)) as gateway, asyncio.TaskGroup() as group:
        listening = gateway.subscribe("kraken:*", ["book", "trade"], mode=truetape.conflate(ms=0))

        async def listen() -> None:
            notices.extend([event async for event in listening if isinstance(event, truetape.Gap | truetape.Status)])

        group.create_task(listen())
        assert await gateway.ready()
        first.signal(signal.SIGKILL)
        await until(
            gateway, lambda: not any(state == "LIVE" for name, state in states(gateway).items() if "kraken" in name)
        )
        with pytest.raises(truetape.NotLive):
            _ = gateway.book(first.ids()[0]).mid
        simulate("kraken", port=first.port)
        await until(gateway, lambda: all_live(gateway))
        await until(gateway, lambda: len(numbers(tape)) > 3, what="several segments")
        listening.close()
    gaps = [event for event in notices if isinstance(event, truetape.Gap) and event.channel == "book"]
    found = {gap.symbol for gap in gaps if not gap.recovered}
    healed = {gap.symbol for gap in gaps if gap.recovered}
    assert found == healed == set(first.symbols), "each gap is told when it is found and when it is healed"
    assert all(gap.from_ts < gap.to_ts for gap in gaps)
    assert "OPEN" in [event.state for event in notices if isinstance(event, truetape.Status) and not event.channel]

    tree = replayed(tape, "0")
    assert_same(gateway, tree)
    assert {gap["symbol"] for gap in tree["gaps"] if gap["channel"] == "book" and gap["recovered"]} == set(
        first.symbols
    )
    assert_same(gateway, replayed(tape, "1"))
    assert_same_books(gateway, tape)


async def test_symbols_wanted_and_unwanted_while_running_are_replayed(
    tmp_path: Path, kraken: Simulator, binance: Simulator
) -> None:
    tape = tmp_path / "tape"
    feeds = [kraken.feed(symbols=kraken.symbols[:1]), binance.feed(symbols=binance.symbols[:1])]
    late = [kraken.ids()[1], binance.ids()[1]]
    async with truetape.open(config(tape, *feeds, retain_bytes=256 * 1024)) as gateway:
        assert await gateway.ready()
        for _ in range(3):
            more = gateway.subscribe(late, ["book", "trade", "quote"])
            await until(
                gateway, lambda: all(states(gateway).get(name) == "LIVE" for name in late), what="the late books"
            )
            seen = {type(event).__name__ for event in await more.take()}
            assert seen
            more.close()
            assert not set(late) & set(states(gateway))
        await until(gateway, lambda: numbers(tape)[0] > 1, what="retention")
        again = gateway.subscribe(late[0], ["book"])
        await until(gateway, lambda: states(gateway).get(late[0]) == "LIVE")
        again.close()
    for seed in ("0", "1"):
        assert_same(gateway, replayed(tape, seed))


WEATHER = """
drop-delta@0.5s=9
wrong-checksum@1s=9
mute-symbol@1s:BTC-USDT=1
drop-delta@2s=9
wrong-checksum@3s=9
close-1006@1.5s
close-1011@2.5s
half-open@3.5s=2
"""


async def test_bad_weather_is_replayed_as_it_was(tmp_path: Path, simulate: Callable[..., Simulator]) -> None:
    """Lost changes, wrong sums, broken and frozen connections, and consumers that come, lag and go meanwhile."""
    faults = tmp_path / "weather.txt"
    faults.write_text(WEATHER)
    unsummed = tmp_path / "unsummed.txt"  # the venues that send no checksums
    unsummed.write_text("\n".join(line for line in WEATHER.splitlines() if "checksum" not in line))
    tape = tmp_path / "tape"
    scripts = {"kraken": faults, "binance": unsummed, "tickdb": unsummed}
    venues = [simulate(venue, 3, 300, 0, "--faults", script) for venue, script in scripts.items()]
    feeds = [venue.feed(symbols=venue.symbols[:2], ping_every_s=0.4, pong_within_s=0.4) for venue in venues]
    modes = (
        truetape.drop_oldest,
        truetape.drop_newest,
        truetape.conflate(ms=5),
        truetape.max_age(s=0.1),
        truetape.disconnect,
    )
    async with truetape.open(config(tape, *feeds, retain_bytes=300 * 1024)) as gateway:
        print(f"seed={gateway.seed}")
        ticking = gateway.subscribe("*", ["trade"], name="clock")
        began, turn = clock(), 0
        while clock() - began < 6 * SECOND:
            await ticking.take()
            turn += 1
            venue, mode = venues[turn % 3], modes[turn % 5]
            channels = ["book_delta", "trade"] if turn % 2 else ["book", "trade"]
            with gateway.subscribe(venue.ids(), channels, mode=mode, bound=1 + turn % 50) as reader_:
                for _ in range(turn % 4):
                    await ticking.take()
                    assert reader_.ledger.balanced
        assert sum(link.session.reconnects for link in gateway.pump.links.values()) >= 6
        await until(gateway, lambda: all_live(gateway), what="fair weather again")
    assert numbers(tape)[0] > 0
    tree = replayed(tape, "0")
    assert_same(gateway, tree)
    assert_same(gateway, replayed(tape, "1"))
    assert_same_books(gateway, tape)
    kept = {(feed.label, want.symbol) for feed in gateway.feeds for want in feed.wants}  # others may end while blind
    books = [gap for gap in tree["gaps"] if gap["channel"] == "book" and (gap["venue"], gap["symbol"]) in kept]
    unhealed = [gap for gap in books if not gap["recovered"]]
    assert not unhealed, (gateway.seed, unhealed)


def served(tmp_path: Path, tape: Path, *feeds: dict[str, Any]) -> Program:
    """`truetape run` as a supervisor would start it."""
    path = write_config(tmp_path / "gateway.toml", {**config(tape, *feeds), "control": {"socket": str(tmp_path / "s")}})
    return Program(truetape_command("run", path))


def status_of(
    tmp_path: Path, claim: Callable[[dict[str, Any]], Any] = bool, within: float = WITHIN_S
) -> dict[str, Any]:
    """The first status of the running gateway of which a claim holds."""
    until = clock() + round(within * 1e9)
    while clock() < until:
        if claim(tree := ask(tmp_path / "s", {"do": "status"})):
            return tree
        pause(0.02)  # a status is asked for again, not too often
    raise AssertionError(f"no such status within {within} s; the last: {tree}")


def test_a_killed_gateway_leaves_a_sound_tape_and_the_next_run_goes_on_in_it(
    tmp_path: Path, kraken: Simulator, binance: Simulator
) -> None:
    tape = tmp_path / "tape"
    with served(tmp_path, tape, kraken.feed(), binance.feed()) as first:
        first.line("started")
        first.line("connected")
        acknowledged = status_of(tmp_path, lambda _: len(numbers(tape)) >= 3)["journal"]["flushed_record"]
        first.signal(signal.SIGKILL)
        assert first.wait() == -signal.SIGKILL
    done = run("verify", tape, "--json")
    assert done.returncode == 0, done.stdout
    assert last_json(done.stdout)["records"] > acknowledged, "what was acknowledged is there"
    before = replayed(tape)
    assert before["digest"] == replayed(tape, "0")["digest"] == replayed(tape, "1")["digest"]
    shutil.copytree(tape, tmp_path / "copy")

    with served(tmp_path, tape, kraken.feed(), binance.feed()) as second:
        second.line("started")
        second.line("connected")
        after = len(numbers(tape))
        status_of(tmp_path, lambda _: len(numbers(tape)) >= after + 2)
        second.signal(signal.SIGTERM)
        stopped = json.loads(second.line("stopped"))
        assert second.wait() == 0
    both = replayed(tape, "0")
    assert both["digest"] == stopped["digest"], "as the gateway said it"
    assert both["runs"] == [before["digest"], stopped["digest"]]
    assert {gap["reason"] for gap in both["gaps"]} == {"the gateway was restarted"}, "what lay between is told"
    assert both == replayed(tape, "1")
    assert both["records"] == before["records"] + replay_of_the_last_run(tape)
    assert run("verify", tape).returncode == 0


def replay_of_the_last_run(tape: Path) -> int:
    """Records since the last header that continues nothing."""
    count = 0
    for header, batch in reader.read_batches(tape):
        if header is not None and not header.state:
            count = 0
        count += len(batch)
    return count


def test_a_torn_tail_is_a_warning_and_what_stands_before_it_is_replayed(tmp_path: Path, kraken: Simulator) -> None:
    tape = tmp_path / "tape"
    with served(tmp_path, tape, kraken.feed()) as program:
        program.line("connected")
        status_of(tmp_path, lambda tree: tree["journal"]["flushed_record"] > 200)
        program.signal(signal.SIGKILL)
        program.wait()
    last = Path(reader.segments(tape)[-1].path)
    assert last.suffix == ".tape", "the open segment is not compressed"
    os.truncate(last, last.stat().st_size - 7)
    done = run("verify", tape, "--json")
    assert done.returncode == 0
    assert last_json(done.stdout)["repaired_tail"] is True
    assert replayed(tape)["events"]["book"] > 0
    with served(tmp_path, tape, kraken.feed()) as again:
        again.line("connected")
        again.signal(signal.SIGTERM)
        assert again.wait() == 0
    assert run("verify", tape).returncode == 0


def live(tree: dict[str, Any]) -> bool:
    return {row["state"] for row in tree["subscriptions"] if row["channel"] == "book"} == {"LIVE"}


def on_a_small_disk(tmp_path: Path, tape: Path, simulator: Simulator) -> list[str]:
    tree = {
        "feeds": [simulator.feed()],
        "journal": {"dir": str(tape), "segment_bytes": 1 << 30},
        "control": {"socket": str(tmp_path / "s")},
    }
    return truetape_command("run", write_config(tmp_path / "gateway.toml", tree))


def test_a_full_disk_stops_the_tape_but_not_the_data(tmp_path: Path, simulate: Callable[..., Simulator]) -> None:
    """RLIMIT_FSIZE stands for the disk: no file of the child may grow beyond it."""
    tape = tmp_path / "tape"
    command = on_a_small_disk(tmp_path, tape, simulate("kraken", 3, 1500))
    with Program(["prlimit", f"--fsize={256 * 1024}", *command]) as program:
        program.line("connected")
        full = status_of(tmp_path, lambda tree: tree["journal"]["state"] == "full")
        assert "File too large" in full["journal"]["reason"]
        assert live(full)
        frames = full["connections"][0]["frames"]
        later = status_of(tmp_path, lambda tree: tree["connections"][0]["frames"] > frames + 1000)
        assert live(later), "the data flow on"
        assert later["connections"][0]["reconnects"] == 0
        assert "File too large" in program.line("journal full", 5)
        assert "journal: " in run("status", "--socket", tmp_path / "s").stdout
        program.signal(signal.SIGTERM)
        assert program.wait() == 0, program.stderr
    assert "Traceback" not in "\n".join(program.stderr)
    assert run("replay", tape, "--json").returncode == 0
    assert run("verify", tape).returncode == 1, "what is missing is said"


def test_a_full_tmpfs_is_told_and_when_there_is_room_again_the_tape_goes_on(
    tmp_path: Path, simulate: Callable[..., Simulator]
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        command = on_a_small_disk(tmp_path, disk / "tape", simulate("kraken", 3, 1500))
        with Program(command) as program:
            program.line("connected")
            full = status_of(tmp_path, lambda tree: tree["journal"]["state"] == "full")
            assert "No space left" in full["journal"]["reason"]
            assert "No space left" in program.line("journal full", 5)
            subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
            well = status_of(tmp_path, lambda tree: tree["journal"]["state"] == "ok" and tree["journal"]["holes"])
            assert live(well)
            program.line("journal ok", 5)
            program.signal(signal.SIGTERM)
            assert program.wait() == 0
        done = run("verify", disk / "tape", "--json")
        assert done.returncode == 1, "a hole is no sound tape"
        assert "No space left" in last_json(done.stdout)["holes"][0]["why"]
        tree = replayed(disk / "tape", "0")
        assert tree["digest"] == replayed(disk / "tape", "1")["digest"]
        assert {book["state"] for book in tree["books"].values()} == {"LIVE"}
    finally:
        subprocess.run(["umount", disk], check=False, capture_output=True)

"""Every command as a user calls it: real processes, real files, real sockets. No traceback, whatever it is given."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import truetape
from tests.app.conftest import (
    ROOT,
    WITHIN_S,
    Program,
    Simulator,
    environment,
    last_json,
    run,
    truetape_command,
    write_config,
)
from truetape.app.config import load
from truetape.io.clock import now as clock
from truetape.io.serve.control import ask
from truetape.io.store import reader

COMMANDS = (
    "demo",
    "run",
    "check",
    "watch",
    "status",
    "replay",
    "verify",
    "dump",
    "symbols",
    "config",
    "sim",
    "simtest",
)
EVENTS = {"book", "trade", "status", "gap", "quote", "ticker", "lagged"}


def refused(*arguments: object, code: int = 2, **options: Any) -> str:
    """What a command says on stderr when it cannot do what it was asked; nothing on stdout."""
    done = run(*arguments, **options)
    assert done.returncode == code, (arguments, done.returncode, done.stdout, done.stderr)
    assert done.stdout == ""
    assert done.stderr.strip()
    return done.stderr


# -- help, version, wrong use


def test_help_of_every_command_is_quick(capsys: pytest.CaptureFixture[str]) -> None:
    took = []
    for command in ((), *((name,) for name in COMMANDS)):
        began = clock()
        done = run(*command, "--help")
        took.append(((clock() - began) / 1e9, " ".join(command) or "truetape"))
        assert done.returncode == 0
        assert "Usage:" in done.stdout
        assert done.stderr == ""
    with capsys.disabled():
        print(
            f" --help: slowest {max(took)[0]:.2f} s ({max(took)[1]}), median {sorted(took)[len(took) // 2][0]:.2f} s",
            end="",
        )
    assert max(took)[0] < 2


def test_help_names_every_command_and_each_command_its_options() -> None:
    page = run("--help").stdout
    assert [name for name in COMMANDS if not re.search(rf"^  {name} +\S", page, re.MULTILINE)] == []
    assert "--from" in run("replay", "--help").stdout


def test_version_is_one_line() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"truetape {truetape.__version__}\n", "")


def test_completion_is_there() -> None:
    assert (
        "complete" in run("--show-completion", "bash", env={"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}).stdout
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["run"], "Missing argument"),
        (["run", "--fast", "x"], "No such option"),
        (["demo", "--seconds", "soon"], "--seconds"),
        (["demo", "--seconds", "-1"], "--seconds"),
        (["replay"], "Missing argument"),
        (["replay", "x", "--books", "-1"], "--books"),
        (["watch"], "Missing argument"),
        (["symbols"], "Missing argument"),
        (["sim"], "--venue"),
        (["sim", "--venue", "nasdaq"], "nasdaq"),
        (["sim", "--venue", "kraken", "--symbols", "0"], "--symbols"),
        (["sim", "--venue", "kraken", "--port", "99999"], "--port"),
        (["config"], "config --defaults"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_wrong_use_is_exit_2_and_says_what_is_wrong(arguments: list[str], said: str) -> None:
    assert said in refused(*arguments)


# -- config and check


def test_the_printed_defaults_are_a_configuration_that_loads(tmp_path: Path) -> None:
    done = run("config", "--defaults")
    assert (done.returncode, done.stderr) == (0, "")
    path = tmp_path / "gateway.toml"
    path.write_text(done.stdout)
    feed = load(path, {}).feeds[0]
    assert (feed.venue, feed.symbols) == ("kraken", ["BTC-USD", "ETH-USD"])
    checked = run("check", path, cwd=tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert "kraken-1: wss://" in checked.stdout
    # every key that is commented out may be taken in as it stands, but what needs a file or a key
    lines = [
        line.removeprefix("# ")
        if re.match(r"# (\w+ = |\[)", line) and not re.match(r'# (ca_file|secret|proxy|url = ""|rest_url|tls) ', line)
        else line
        for line in done.stdout.splitlines()
    ]
    path.write_text("\n".join(lines))
    everything = load(path, {})
    assert everything.journal is not None
    assert run("check", path).returncode == 0
    assert "kraken" in run("check", path).stdout


@pytest.mark.parametrize("pins", [1, 2])
def test_check_warns_of_a_single_pin(tmp_path: Path, kraken: Simulator, pins: int) -> None:
    names = [f"sha256/{letter * 43}=" for letter in "AB"][:pins]
    path = write_config(
        tmp_path / "gateway.toml",
        {"feeds": [kraken.feed(url="wss://localhost:1/v2", rest_url="https://localhost:1", pins=names)]},
    )
    done = run("check", path)
    assert done.returncode == 0, done.stderr
    assert ("one pin only; name a backup" in done.stderr) == (pins == 1)


def test_check_shows_what_it_would_connect_to(tmp_path: Path, kraken: Simulator) -> None:
    path = write_config(tmp_path / "gateway.toml", {"feeds": [kraken.feed()]})
    done = run("check", path, "--json")
    assert done.returncode == 0
    tree = last_json(done.stdout)
    assert tree["ok"] is True
    row = tree["connections"][0]
    assert (row["connection"], row["url"]) == ("kraken-1", kraken.ws)
    assert sorted(row["subscriptions"]) == sorted(
        f"{channel} {name}" for channel in ("book", "trade") for name in kraken.ids()
    )
    plain = run("check", path)
    assert "kraken-1" in plain.stdout
    assert "ok" in plain.stderr


BAD_CONFIGS = {
    "unknown key": ('[[feeds]]\nvenue = "kraken"\nsymbols = ["BTC-USD"]\ndepht = 1\n', "depht"),
    "wrong type": ('[[feeds]]\nvenue = "kraken"\nsymbols = ["BTC-USD"]\ndepth = "x"\n', "$.feeds[0].depth"),
    "bad venue": ('[[feeds]]\nvenue = "krakn"\nsymbols = ["BTC-USD"]\n', "krakn"),
    "empty symbols": ('[[feeds]]\nvenue = "kraken"\nsymbols = []\n', "at least one symbol"),
    "twice the name": ('[[feeds]]\nvenue = "kraken"\nsymbols = ["A-B"]\n' * 2, "unique feed names"),
    "no TOML": ("this is no TOML", "expected TOML"),
    "no feeds": ("", "[[feeds]]"),
    "no text": ("\0\0\0", "expected TOML"),
}


@pytest.mark.parametrize("name", BAD_CONFIGS)
@pytest.mark.parametrize("command", ["check", "run"])
def test_a_bad_config_is_exit_2_and_names_the_key(tmp_path: Path, command: str, name: str) -> None:
    text, said = BAD_CONFIGS[name]
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    found = refused(command, path)
    assert said in found
    assert found.count("\n") == 1, "one line"
    assert found.startswith("truetape: ")


def test_a_config_that_cannot_be_read_is_exit_2(tmp_path: Path) -> None:
    assert "found nothing" in refused("check", tmp_path / "absent.toml")
    assert "Is a directory" in refused("run", tmp_path)
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    assert "UTF-8" in refused("check", tmp_path / "bytes.toml")


def test_variables_override_the_file(tmp_path: Path, kraken: Simulator) -> None:
    path = write_config(tmp_path / "gateway.toml", {"feeds": [kraken.feed(url="ws://127.0.0.1:1/")]})
    done = run("check", path, env={"TRUETAPE_FEEDS__KRAKEN__URL": kraken.ws})
    assert (done.returncode, kraken.ws in done.stdout) == (0, True)
    assert "TRUETAPE_FEEDS__KRAKEN__DEPTH" in refused("check", path, env={"TRUETAPE_FEEDS__KRAKEN__DEPTH": "deep"})


# -- run and status


@pytest.fixture
def serve(tmp_path: Path, kraken: Simulator) -> Iterator[Callable[..., Program]]:
    """`truetape run` on the simulator, with journal and control socket in the test's folder."""
    programs: list[Program] = []

    def start(**more: Any) -> Program:
        tree = {"feeds": [kraken.feed()], "journal": {"dir": "tape"}, "control": {"socket": "run/s"}, **more}
        path = write_config(tmp_path / "gateway.toml", tree)
        programs.append(Program(truetape_command("run", path), cwd=tmp_path))
        return programs[-1]

    yield start
    for program in programs:
        program.end()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"])
def test_run_ends_cleanly_when_it_is_told_to(
    tmp_path: Path, serve: Callable[..., Program], number: int, code: int
) -> None:
    program = serve()
    program.line("connected")
    program.signal(number)
    assert program.wait() == code, program.stderr
    assert program.stdout == []
    said = [json.loads(line) for line in program.stderr]
    assert [row["event"] for row in said if row["event"] != "connected"] == ["started", "draining", "stopped"]
    assert not (tmp_path / "run" / "s").exists()
    assert run("verify", tmp_path / "tape").returncode == 0
    assert last_json(run("replay", tmp_path / "tape", "--json").stdout)["digest"] == said[-1]["digest"]


def test_a_second_gateway_on_the_same_tape_or_socket_says_why(
    tmp_path: Path, serve: Callable[..., Program], kraken: Simulator
) -> None:
    serve().line("connected")
    same = write_config(tmp_path / "second.toml", {"feeds": [kraken.feed()], "journal": {"dir": "tape"}})
    assert "expected no other writer, found process" in refused("run", same, code=1, cwd=tmp_path)
    same = write_config(tmp_path / "third.toml", {"feeds": [kraken.feed()], "control": {"socket": "run/s"}})
    assert "another gateway answers there" in refused("run", same, code=2, cwd=tmp_path), "as a port that is taken"


@pytest.mark.parametrize("wrong", [("bogus",), ("info", "--format", "bogus")])
def test_a_level_that_is_none_is_wrong_use_whether_or_not_a_gateway_runs(
    tmp_path: Path, wrong: tuple[str, ...]
) -> None:
    assert "bogus" in refused("log", *wrong, "--socket", tmp_path / "absent", code=2)


def test_a_tape_or_socket_that_cannot_be_made_says_so(tmp_path: Path, kraken: Simulator) -> None:
    (tmp_path / "file").write_text("")
    path = write_config(tmp_path / "g.toml", {"feeds": [kraken.feed()], "journal": {"dir": "file"}})
    assert "change [journal] dir" in refused("run", path, code=1, cwd=tmp_path)
    path = write_config(tmp_path / "g.toml", {"feeds": [kraken.feed()], "control": {"socket": "file"}})
    assert "set another [control] socket" in refused("run", path, code=2, cwd=tmp_path)


def test_run_goes_on_without_its_venue_and_says_what_it_waits_for(
    tmp_path: Path, serve: Callable[..., Program], kraken: Simulator
) -> None:
    program = serve(feeds=[kraken.feed(url="ws://127.0.0.1:1/v2")])
    assert "dial_failed: 127.0.0.1:1: Connection refused" in program.line("connection lost")
    done = run("status", "--socket", tmp_path / "run" / "s")
    assert done.returncode == 0
    assert "kraken-1: WAITING dial_failed: 127.0.0.1:1: Connection refused" in done.stdout
    program.signal(signal.SIGTERM)
    assert program.wait() == 0


def test_run_goes_on_when_nobody_reads_its_log(tmp_path: Path, simulate: Callable[..., Simulator]) -> None:
    venue = simulate("kraken", 1, 50)
    path = write_config(tmp_path / "g.toml", {"feeds": [venue.feed()], "control": {"socket": str(tmp_path / "s")}})
    process = subprocess.Popen(truetape_command("run", path), stderr=subprocess.PIPE, env=environment())
    try:
        assert process.stderr is not None
        while b"connected" not in process.stderr.readline():
            pass
        process.stderr.close()
        venue.signal(signal.SIGKILL)
        again = simulate("kraken", 1, 50, venue.port)
        until = clock() + round(WITHIN_S * 1e9)
        while (row := ask(tmp_path / "s", {"do": "status"})["connections"][0])["state"] != "OPEN" or not row[
            "reconnects"
        ]:
            assert clock() < until, row
            select.select([], [], [], 0.05)
        assert again.process.poll() is None
        process.terminate()
        assert process.wait(WITHIN_S) == 0
    finally:
        process.kill()
        process.wait()


def test_status_is_a_page_for_people_and_json_for_programs(
    tmp_path: Path, serve: Callable[..., Program], kraken: Simulator
) -> None:
    program = serve()
    program.line("connected")
    socket = tmp_path / "run" / "s"
    tree = last_json(run("status", "--socket", socket, "--json").stdout)
    assert {f"{row['venue']}:{row['symbol']}" for row in tree["subscriptions"]} == set(kraken.ids())
    page = run("status", "--socket", "run/s", cwd=tmp_path).stdout
    for name in kraken.ids():
        assert name in page
    assert "journal: ok" in page
    assert "…" not in page, "nothing is cut off"
    assert "no gateway answers there" in refused("status", "--socket", tmp_path / "absent", code=1)


# -- watch, symbols, sim


def test_watch_prints_events_as_json_lines(kraken: Simulator) -> None:
    done = run("watch", kraken.ids()[0], "--url", kraken.ws, "--json", "--seconds", 2)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert {event["kind"] for event in events} <= EVENTS
    books = [event for event in events if event["kind"] == "book"]
    assert books
    assert {(event["venue"], event["symbol"]) for event in books} == {("kraken", kraken.symbols[0])}
    assert all(len(event["bids"]) <= 10 for event in books)


def test_watch_fetches_snapshots_where_it_connects(binance: Simulator) -> None:
    done = run("watch", binance.ids()[0], "--url", binance.ws, "--json", "--seconds", 2, "--depth", 3)
    books = [event for event in map(json.loads, done.stdout.splitlines()) if event["kind"] == "book"]
    assert books
    assert {len(event["bids"]) for event in books} == {3}


def test_watch_without_a_terminal_prints_the_last_screen(kraken: Simulator) -> None:
    done = run("watch", *kraken.ids()[:2], "--url", kraken.ws, "--seconds", 2)
    assert done.returncode == 0
    for name in kraken.ids()[:2]:
        assert name in done.stdout
    assert "LIVE" in done.stdout


def test_watch_says_what_it_waits_for() -> None:
    done = run("watch", "kraken:BTC-USD", "--url", "ws://127.0.0.1:1/", "--seconds", 1.5)
    assert done.returncode == 0
    assert "kraken-1 WAITING: dial_failed: 127.0.0.1:1: Connection refused" in done.stdout
    assert "kraken:BTC-USD SYNCING: waiting for the first data" in done.stdout


def test_watch_takes_its_feed_from_a_config(tmp_path: Path, kraken: Simulator) -> None:
    path = write_config(tmp_path / "g.toml", {"feeds": [kraken.feed(name="mine")]})
    for name in ("mine:", "kraken:"):
        done = run("watch", name + kraken.symbols[0], "--config", path, "--json", "--seconds", 1)
        assert done.returncode == 0, done.stderr
        assert '"kind":"book"' in done.stdout


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"])
def test_watch_ends_when_it_is_told_to(kraken: Simulator, number: int, code: int) -> None:
    with Program(truetape_command("watch", kraken.ids()[0], "--url", kraken.ws, "--json")) as program:
        program.line('"kind":"book"')
        program.signal(number)
        assert program.wait() == code
        assert "Traceback" not in "\n".join(program.stderr)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["BTC-USD"], "expected VENUE:SYMBOL"),
        (["kraken:"], "expected VENUE:SYMBOL"),
        (["nasdaq:AAPL"], "nasdaq"),
        (["kraken:BTC-USD", "--url", "http://127.0.0.1:1"], "expected an address that begins with ws:// or wss://"),
        (["kraken:BTC-USD", "--config", "absent.toml"], "absent.toml"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_cannot_be_watched_is_exit_2(arguments: list[str], said: str) -> None:
    assert said in refused("watch", *arguments, "--seconds", 1)


def test_symbols_are_listed_in_both_spellings(binance: Simulator, kraken: Simulator, tickdb: Simulator) -> None:
    for simulator in (binance, kraken, tickdb):
        done = run("symbols", simulator.venue, "--rest-url", simulator.rest, "--json")
        assert done.returncode == 0, done.stderr
        assert {row["id"] for row in last_json(done.stdout)} == set(simulator.ids())
    done = run("symbols", "binance", "btc", "--rest-url", binance.rest)
    assert re.fullmatch(r"binance:BTC-USDT +BTCUSDT +tick .*\n", done.stdout)
    assert "1 of 3" in done.stderr
    assert (
        last_json(run("symbols", "binance", "*ETH*", "--rest-url", binance.rest, "--json").stdout)[0]["raw"]
        == "ETHUSDT"
    )
    assert last_json(run("symbols", "binance", "nothing", "--rest-url", binance.rest, "--json").stdout) == []


def test_symbols_that_cannot_be_fetched_are_exit_1_and_say_why(kraken: Simulator) -> None:
    assert "Connect call failed" in refused("symbols", "binance", "--rest-url", "http://127.0.0.1:1", code=1)
    assert "expected a list of instruments" in refused("symbols", "binance", "--rest-url", kraken.rest, code=1)
    assert "nasdaq" in refused("symbols", "nasdaq")


def test_a_simulator_prints_a_stanza_that_a_gateway_takes(tmp_path: Path) -> None:
    done = run("sim", "--venue", "kraken", "--symbols", 2, "--print-config")
    assert done.returncode == 0
    path = tmp_path / "gateway.toml"
    path.write_text(done.stdout)
    assert run("check", path).returncode == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"])
def test_a_simulator_ends_when_it_is_told_to(simulate: Callable[..., Simulator], number: int, code: int) -> None:
    simulator = simulate("kraken", 1, 10)
    simulator.signal(number)
    assert simulator.wait() == code


# -- the tape: verify, dump, and its readers that go away


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory, kraken: Simulator, binance: Simulator) -> Path:
    """A journal of two venues and several segments."""
    folder = tmp_path_factory.mktemp("cli")
    tree = {
        "feeds": [kraken.feed(symbols=kraken.symbols[:2]), binance.feed(symbols=binance.symbols[:2])],
        "journal": {"dir": str(folder / "tape"), "segment_bytes": 65536},
    }
    with Program(truetape_command("run", write_config(folder / "g.toml", tree))) as program:
        program.line("connected")
        until = clock() + round(WITHIN_S * 1e9)
        while not (folder / "tape").exists() or len(reader.segments(folder / "tape")) < 4:
            assert clock() < until
            select.select([], [], [], 0.05)
        program.signal(signal.SIGTERM)
        assert program.wait() == 0
    return folder / "tape"


def test_verify_counts_what_is_there(tape: Path) -> None:
    done = run("verify", tape, "--json")
    assert done.returncode == 0
    tree = last_json(done.stdout)
    assert set(tree) == {"segments", "records", "first_t", "last_t", "repaired_tail", "holes"}
    assert tree["segments"] >= 3
    assert tree["records"] > 100
    assert tree["first_t"] < tree["last_t"]
    assert (tree["repaired_tail"], tree["holes"]) == (False, [])
    assert "sound" in run("verify", tape).stdout


def test_a_damaged_journal_is_exit_1_and_says_where(tape: Path, tmp_path: Path) -> None:
    copy = tmp_path / "tape"
    shutil.copytree(tape, copy)
    victim = sorted(copy.glob("*.tape*"))[1]
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 0x40
    victim.write_bytes(data)
    done = run("verify", copy, "--json")
    assert done.returncode == 1
    hole = last_json(done.stdout)["holes"][0]
    assert hole["file"].startswith(victim.name[:8])
    assert hole["offset"] >= 0
    assert hole["why"]
    page = run("verify", copy)
    assert (page.returncode, "damaged" in page.stdout, "hole: " in page.stdout) == (1, True, True)
    replayed = run("replay", copy, "--json")
    assert replayed.returncode == 0, "what is there can still be used"
    assert run("dump", copy).returncode == 0
    assert '"kind":"hole"' in run("dump", copy, "--kind", "hole").stdout
    victim.unlink()
    assert run("verify", copy).returncode == 1


def test_a_folder_that_is_no_journal_is_wrong_use(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for command in ("verify", "dump", "replay"):
        for path in (tmp_path / "absent", tmp_path):
            said = refused(command, path)
            assert str(path) in said
            assert "found" in said
    for command in ("verify", "dump"):
        assert "found" in refused(command, tmp_path / "file")


def test_dump_prints_records_as_json_lines(tape: Path) -> None:
    done = run("dump", tape)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {"frame", "opened", "sent", "fetched", "tick"} <= {row["kind"] for row in rows}
    assert len(rows) == last_json(run("verify", tape, "--json").stdout)["records"]
    assert [row["now"] for row in rows] == sorted(row["now"] for row in rows)
    some = run("dump", tape, "--kind", "opened", "--kind", "sent", "--jsonl")
    assert {json.loads(line)["kind"] for line in some.stdout.splitlines()} == {"opened", "sent"}


def test_dump_prints_events_as_they_were_published(tape: Path) -> None:
    counts = last_json(run("replay", tape, "--json").stdout)["events"]
    for kind, name in (("trade", "trade"), ("book_delta", "book")):
        rows = [json.loads(line) for line in run("dump", tape, "--kind", kind).stdout.splitlines()]
        assert {row["kind"] for row in rows} == {name}
        assert len(rows) == counts[name]
    books = [json.loads(line) for line in run("dump", tape, "--kind", "book").stdout.splitlines()]
    assert books
    assert all(book["snapshot"] for book in books), "whole books"
    notices = [json.loads(line) for line in run("dump", tape, "--kind", "status").stdout.splitlines()]
    assert {row["kind"] for row in notices} == {"status"}


def test_dump_prints_csv_with_a_header(tape: Path) -> None:
    done = run("dump", tape, "--kind", "trade", "--csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert rows
    assert {row["venue"] for row in rows} == {"kraken", "binance"}
    assert all(float(row["price"]) > 0 for row in rows), "one header for all of them"
    records = run("dump", tape, "--kind", "tick", "--csv").stdout
    assert records.startswith("kind,source,now\n")


def test_dump_of_an_unknown_kind_says_which_there_are(tape: Path) -> None:
    assert "found 'candle'" in refused("dump", tape, "--kind", "candle")
    assert "found both" in refused("dump", tape, "--kind", "book", "--kind", "book_delta")


def test_a_reader_that_goes_away_is_no_error(tape: Path) -> None:
    command = " ".join(truetape_command("dump", tape))
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} | head -n 1"],
        capture_output=True,
        text=True,
        check=False,
        env=environment(),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1


def test_ctrl_c_ends_a_long_replay_without_a_word(tape: Path) -> None:
    with Program(truetape_command("replay", tape, "--speed", 0.01)) as program:
        until = clock() + round(WITHIN_S * 1e9)
        while str(tape / "0") not in " ".join(
            os.path.realpath(f"/proc/{program.pid}/fd/{fd}") for fd in fds(program.pid)
        ):
            assert clock() < until
            select.select([], [], [], 0.02)
        program.signal(signal.SIGINT)
        assert program.wait() == 130
        assert program.stdout == []
        assert "Traceback" not in "\n".join(program.stderr)


def fds(pid: int) -> list[str]:
    return os.listdir(f"/proc/{pid}/fd")


# -- the demo


def test_the_demo_s_figures_are_those_of_the_contract_and_no_hours_are_warned_of(tmp_path: Path) -> None:
    """As for a first-time user: without the extras, the market hours' among them."""
    missing = tmp_path / "exchange_calendars.py"
    missing.write_text(
        "raise ModuleNotFoundError(\"No module named 'exchange_calendars'\", name='exchange_calendars')\n"
    )
    env = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT / 'src'}"}
    done = run("demo", "--seconds", 5, "--json", env=env)
    assert done.returncode == 0, done.stderr
    assert "market hours" not in done.stderr  # of a late loop it may warn: other tests run beside
    figures = last_json(done.stdout)
    keys = "seconds events events_per_s p50_ms p99_ms gaps reconnects books_live books ledger_balanced rss_mb"
    assert list(figures) == keys.split()
    assert 5 <= figures["seconds"] < 8
    assert figures["events"] > 100
    assert (figures["ledger_balanced"], figures["reconnects"], figures["gaps"]) == (True, 0, 0)
    assert figures["books_live"] == figures["books"] == 12
    assert done.stdout.count("\n") == 1


def children(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"])
def test_the_demo_ends_with_all_its_simulators(number: int, code: int) -> None:
    """On a terminal of 100 columns and 30 lines, where it draws its screen."""
    main, side = pty.openpty()
    os.set_blocking(main, False)
    process = subprocess.Popen(
        truetape_command("demo"),
        stdout=side,
        stderr=side,
        stdin=side,
        env=environment(TERM="xterm", COLUMNS="100", LINES="30"),
    )
    os.close(side)
    shown = b""
    try:
        until = clock() + round(WITHIN_S * 1e9)
        while b"12/12 books" not in shown:
            assert clock() < until, shown[-2000:]
            select.select([main], [], [], 0.5)
            try:
                shown += os.read(main, 1 << 20)
            except BlockingIOError:
                continue
        while len(simulators := children(process.pid)) > 3:  # the child that reads market hours ends by itself
            assert clock() < until, simulators
            if select.select([main], [], [], 0.1)[0]:  # who draws must be read, or it waits for us
                os.read(main, 1 << 20)
        assert len(simulators) == 3
        process.send_signal(number)
        while process.poll() is None:
            assert clock() < until
            select.select([main], [], [], 0.1)
            try:
                shown += os.read(main, 1 << 20)
            except OSError:
                continue
        assert process.returncode == code
    finally:
        process.kill()
        process.wait()
        os.close(main)
    assert not any(Path(f"/proc/{pid}").exists() for pid in simulators)
    text = shown.decode(errors="replace")
    assert "Traceback" not in text
    for word in ("kraken:BTC-USDT", "binance:BTC-USDT", "tickdb:AAPL.US", "slow notebook", "imbalance", "LIVE"):
        assert word in text

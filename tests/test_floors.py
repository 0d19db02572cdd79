"""The rules of tests/floors.py hold for the tree, and each of them can fail."""

import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import floors
from floors import ROOT, Source

PACKAGE = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "src" / "truetape").rglob("*.py"))
PURE = [path for path in PACKAGE if path.startswith(floors.PURE_ROOMS)]

# What may break a rule of size or of tasks, with the reason: {"path" or "path::Class.function": "why it is one noun still"}.
# An entry that is no longer needed fails, so that the list can only shrink by itself.
TOO_LONG_FOR_A_REASON: dict[str, str] = {}
TASKS_FOR_A_REASON: dict[str, str] = {}  # "path": why nobody could wait for it


class LongRoom(UserWarning):
    """A file or a function beyond what fits a screen: split it before it fails."""


def read(path: str) -> Source:
    return Source.parse(path, (ROOT / path).read_text())


def place(complaint: str) -> str:
    """`path`, or `path::function`, without the line."""
    return re.sub(r":\d+$", "", complaint.partition(": ")[0])


def excused(complaints: list[str], reasons: dict[str, str]) -> tuple[list[str], set[str]]:
    """The complaints that no reason covers, and the reasons that were needed. A reason covers its path or its function, no more."""
    left = [complaint for complaint in complaints if place(complaint) not in reasons]
    return left, {place(complaint) for complaint in complaints} & set(reasons)


@pytest.mark.parametrize("rule", floors.IN_PURE_ROOMS, ids=lambda rule: rule.__name__)
def test_pure_rooms_keep(rule: floors.Rule) -> None:
    assert [complaint for path in PURE for complaint in rule(read(path))] == []


@pytest.mark.parametrize("rule", floors.IN_THE_PACKAGE, ids=lambda rule: rule.__name__)
def test_the_package_keeps(rule: floors.Rule) -> None:
    complaints = [complaint for path in PACKAGE for complaint in rule(read(path))]
    reasons = {floors.too_long: TOO_LONG_FOR_A_REASON, floors.tasks_in_groups: TASKS_FOR_A_REASON}.get(rule, {})
    left, used = excused(complaints, reasons)
    assert left == []
    assert set(reasons) - used == set(), "these reasons are no longer needed"


def test_long_rooms_are_named() -> None:
    for path in PACKAGE:
        for complaint in floors.rather_long(read(path)):
            warnings.warn(complaint, LongRoom, stacklevel=1)


def test_files_are_named_for_what_they_are() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert [path for path in {*listed, *PACKAGE} if floors.shapeless_name(path)] == []


def long_function(lines: int) -> str:
    return "def long() -> None:\n" + "    pass\n" * (lines - 1)


BROKEN = [
    (floors.no_async, "async def wait() -> None: ..."),
    (floors.no_async, "def f():\n    async def inner(): ..."),
    (floors.no_side_doors, "text = open('x').read()"),
    (floors.no_side_doors, "print('here')"),
    (floors.no_third_party, "import numpy as np"),
    (floors.no_third_party, "from picows import WSFrame"),
    (floors.no_clock_in_pure_rooms, "import time"),
    (floors.no_clock_in_pure_rooms, "from datetime import timedelta"),
    (floors.no_global_random, "import random\nx = random.random()"),
    (floors.no_global_random, "import random\nx = random.SystemRandom()"),
    (floors.no_global_random, "from random import choice"),
    (floors.no_global_random, "from random import Random\nr = Random()"),
    (floors.no_set_order, "for x in {'a', 'b'}: pass"),
    (floors.no_set_order, "y = [x for x in set(names)]"),
    (floors.no_set_order, "y = list({n.lower() for n in names})"),
    (floors.no_set_order, "y = ', '.join(frozenset(names))"),
    (floors.one_clock, "import time\nnow = time.monotonic_ns()"),
    (floors.one_clock, "from time import time_ns"),
    (floors.one_clock, "from datetime import datetime, UTC\nnow = datetime.now(UTC)"),
    (floors.one_clock, "import asyncio\nnow = asyncio.get_running_loop().time()"),
    (floors.one_clock, "def f(self):\n    return self._loop.time()"),
    (floors.module_docstring, "x = 1"),
    (floors.module_docstring, ""),
    (floors.tasks_in_groups, "import asyncio\nasyncio.create_task(f())"),
    (floors.tasks_in_groups, "loop.create_task(f())"),
    (floors.tasks_in_groups, "import asyncio\nasyncio.ensure_future(f())"),
    (floors.tasks_in_groups, "from asyncio import create_task"),
    (
        floors.tasks_in_groups,
        "async def f(other):\n    async with TaskGroup() as group:\n        other.create_task(g())",
    ),
    (floors.below_the_front_door, "from truetape import Gateway"),
    (floors.below_the_front_door, "import truetape"),
    (floors.too_long, "x = 1\n" * 400),
    (floors.too_long, long_function(80)),
    (floors.too_long, "class A:\n" + "".join(f"    {line}\n" for line in long_function(80).splitlines())),
    (floors.rather_long, "x = 1\n" * 301),
    (floors.rather_long, long_function(61)),
]

KEPT = [
    (floors.no_side_doors, "gate.open()\nbook.print()"),
    (floors.no_third_party, "import math\nfrom msgspec import Struct\nfrom truetape.model.event import Trade"),
    (floors.no_global_random, "from random import Random\ndef f(random: Random): return random.random()"),
    (floors.no_set_order, "for x in sorted({'a', 'b'}): pass\nknown = 'a' in {'a'}"),
    (floors.one_clock, "def f(clock): return clock.now()"),
    (floors.module_docstring, '"""What this room is for."""'),
    (
        floors.tasks_in_groups,
        "async def f():\n    async with asyncio.TaskGroup() as group:\n        group.create_task(g())",
    ),
    (floors.tasks_in_groups, "def f(tasks: asyncio.TaskGroup):\n    tasks.create_task(g())"),
    (
        floors.tasks_in_groups,
        "class A:\n    def __init__(self, g: TaskGroup):\n        self.g = g\n    def f(self): self.g.create_task(h())",
    ),
    (floors.below_the_front_door, "from truetape.core.feed.session import Session\nfrom truetape import model"),
    (floors.too_long, "x = 1\n" * 399),
    (floors.too_long, long_function(79)),
    (floors.rather_long, long_function(60)),
]


@pytest.mark.parametrize(("rule", "text"), BROKEN, ids=lambda part: getattr(part, "__name__", None))
def test_a_rule_can_fail(rule: floors.Rule, text: str) -> None:
    assert rule(Source.parse("src/truetape/core/offender.py", text)) != []


@pytest.mark.parametrize(("rule", "text"), KEPT, ids=lambda part: getattr(part, "__name__", None))
def test_a_rule_lets_the_right_way_pass(rule: floors.Rule, text: str) -> None:
    assert rule(Source.parse("src/truetape/core/citizen.py", text)) == []


def test_every_rule_was_seen_to_fail() -> None:
    assert {*floors.IN_PURE_ROOMS, *floors.IN_THE_PACKAGE, floors.rather_long} == {rule for rule, _ in BROKEN}


def test_the_model_knows_words_only() -> None:
    source = "import math"
    assert floors.no_third_party(Source.parse("src/truetape/model/offender.py", source)) != []
    assert floors.no_third_party(Source.parse("src/truetape/core/citizen.py", source)) == []


def test_only_the_clock_reads_the_clock() -> None:
    assert floors.one_clock(Source.parse(floors.THE_CLOCK, "import time\nnow = time.time_ns()")) == []


def test_shapeless_names_are_refused() -> None:
    assert floors.shapeless_name("tests/io/helpers.py")
    assert not floors.shapeless_name("src/truetape/core/feed/session.py")


def test_a_reason_covers_its_place_only() -> None:
    complaints = ["a.py: 450 lines, fails at 400", "a.py::f: 90 lines, fails at 80", "b.py::g: 90 lines, fails at 80"]
    assert excused(complaints, {"a.py": "a table"}) == (complaints[1:], {"a.py"})
    assert excused(complaints, {"a.py::f": "one match"}) == ([complaints[0], complaints[2]], {"a.py::f"})
    assert excused(complaints, {"gone.py": "no longer there"}) == (complaints, set())


# The import contracts, played on a small package that breaks every one of them


OFFENCES = {
    "model/word.py": "import os\nfrom truetape.core import law",  # floors, pure
    "core/law.py": "",
    "core/route/__init__.py": "",
    "core/route/pump.py": "",
    "venues/one.py": "from truetape.venues import two\nfrom truetape.core.route import pump",  # venues, venue_doors
    "venues/two.py": "",
    "io/obs/__init__.py": "",
    "io/obs/log.py": "",
    "io/obs/metrics.py": "import structlog",  # log
    "io/store/__init__.py": "",
    "io/store/journal.py": "from truetape.io.obs import metrics\nimport picows\nimport uvloop",  # io_rooms, picows, loop
    "app/live.py": "import aiohttp\nimport zstandard\nimport typer\nimport pydantic\nimport pytest",  # each has its contract
    "app/hours.py": "import pandas",  # calendars
    "app/tokens.py": "import jwt",  # downstream
}
CLEAN = {
    "core/law.py": "import math\nimport msgspec",
    "core/feed/__init__.py": "",
    "core/feed/venue.py": "from truetape.core import law",
    "venues/one.py": "from truetape.core.feed import venue",
    "io/clock.py": "import time",
    "io/obs/__init__.py": "",
    "io/obs/log.py": "import structlog",
    "io/net/__init__.py": "",
    "io/net/driver.py": "import picows\nfrom truetape.io import clock\nfrom truetape.io.obs import log",
    "io/net/http.py": "import aiohttp",
    "io/hours/__init__.py": "",
    "io/hours/child.py": "import exchange_calendars",
    "io/serve/__init__.py": "",
    "io/serve/tokens.py": "import jwt",
    "io/store/__init__.py": "",
    "io/store/journal.py": "import crc32c, zstandard",
    "app/cli/__init__.py": "",
    "app/cli/main.py": "import typer\nimport rich",
    "app/live.py": "import uvloop\nfrom truetape.io.net import driver\nfrom truetape.venues import one",
}


def contracts(folder: Path, files: dict[str, str]) -> tuple[dict[str, str], str]:
    """What each contract says of such a package: {contract's id: KEPT or BROKEN}, and the linter's own words."""
    for name, text in files.items():
        path = folder / "truetape" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for package in (path.parent, folder / "truetape", folder / "truetape" / name.partition("/")[0]):
            (package / "__init__.py").touch()
        path.write_text(text)
    said = {}
    words = ""
    for contract in [
        line[23:-1]
        for line in (ROOT / ".importlinter").read_text().splitlines()
        if line.startswith("[importlinter:contract:")
    ]:
        linter = "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command; lint_imports_command()"
        arguments = ["--no-cache", "--no-logo", "--config", str(ROOT / ".importlinter"), "--contract", contract]
        done = subprocess.run(
            [sys.executable, "-c", linter, *arguments], cwd=folder, capture_output=True, text=True, check=False
        )
        said[contract] = "KEPT" if done.returncode == 0 else "BROKEN" if " BROKEN" in done.stdout else "ERROR"
        words += done.stdout + done.stderr
    return said, words


def test_every_import_contract_can_be_broken(tmp_path: Path) -> None:
    said, words = contracts(tmp_path, OFFENCES)
    assert set(said.values()) == {"BROKEN"}, f"{said}\n{words}"


def test_import_contracts_let_the_right_way_pass(tmp_path: Path) -> None:
    said, words = contracts(tmp_path, CLEAN)
    assert set(said.values()) == {"KEPT"}, f"{said}\n{words}"


def test_import_contracts_hold_before_the_rooms_are_built(tmp_path: Path) -> None:
    said, words = contracts(tmp_path, {"model/word.py": ""})
    assert set(said.values()) == {"KEPT"}, f"{said}\n{words}"

"""What the house says of itself is so: no machine's address in a file, locks that fit together, a reason for every dependency."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import truetape
from floors import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

# Where packages come from, and where a clone lies, is each machine's own affair.
ADDRESSES = re.compile(
    r"""
    https?://[a-z0-9.-]*(?:registry|hosted|packages|index|mirror)[a-z0-9.-]*/
    | \b(?:files\.pythonhosted|pypi|registry\.npmjs|proxy\.golang|static\.crates|deb\.debian)\.(?:org|io)\b
    | --(?:extra-)?index[-_]url | --find[-_]links | \[\[tool\.uv\.index
    | /simple/?"
    | file:/{3}
    | (?<![\w.~/-])/(?:work|root|home|Users)/[A-Za-z]
    """,
    re.VERBOSE | re.IGNORECASE,
)


def addresses(text: str) -> list[str]:
    return [f"{number}: {line.strip()}" for number, line in enumerate(text.splitlines(), 1) if ADDRESSES.search(line)]


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = [ROOT / name for name in listed.split("\0") if name]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def pinned(lock: str) -> dict[str, str]:
    """{name: the whole entry with its markers and hashes} of one lock."""
    text = (ROOT / "requirements" / f"{lock}.lock").read_text()
    entries = re.split(r"\n(?=[a-z0-9])", text.strip())
    return {re.split(r"[=\s;]", entry)[0]: entry.strip() for entry in entries}


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=!~; ]", requirement)[0] for requirement in requirements}


def dependencies() -> set[str]:
    return names(PROJECT["project"]["dependencies"]) | names(PROJECT["project"]["optional-dependencies"]["test"])


def test_no_address_of_a_registry_or_a_machine_is_tracked() -> None:
    found = []
    for path in tracked():
        data = path.read_bytes()
        if b"\0" not in data:
            found += [f"{path.relative_to(ROOT)}:{line}" for line in addresses(data.decode(errors="replace"))]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "https:/" + "/registry.example.org/a.tgz",
        "see pypi" + ".org",
        "pip install --extra-index" + "-url x",
        '"https://example.com/simple' + '/"',
        "file://" + "/opt/wheels",
        "cd /" + "work/main",
        '"/' + 'home/somebody/truetape"',
    ],
)
def test_an_address_is_seen(text: str) -> None:
    assert addresses(text) != []


def test_what_is_no_address_passes() -> None:
    assert (
        addresses("docs/home/plan.md ../shared https://api.example.com/v1/home/x ~/home/x wss://stream.example.com/ws")
        == []
    )


def test_the_test_lock_contains_the_runtime_lock() -> None:
    runtime, test = pinned("runtime"), pinned("test")
    assert {name: entry for name, entry in runtime.items() if test.get(name) != entry} == {}


def test_the_lock_of_images_with_extras_lies_between_the_two() -> None:
    runtime, extras, test = pinned("runtime"), pinned("extras"), pinned("test")
    assert {name: entry for name, entry in runtime.items() if extras.get(name) != entry} == {}
    wanted = [
        row for extra in ("nats", "redis", "traces") for row in PROJECT["project"]["optional-dependencies"][extra]
    ]
    assert names(wanted) - set(extras) == set()
    assert {name: entry.splitlines()[0] for name, entry in extras.items()}.items() <= {
        name: entry.splitlines()[0] for name, entry in test.items()
    }.items()


def test_locks_hold_versions_and_hashes_only() -> None:
    for lock in ("runtime", "test", "extras"):
        for name, entry in pinned(lock).items():
            first, *hashes = entry.splitlines()
            assert re.fullmatch(r"[a-z0-9._-]+==[\w.]+( ;[^\\]+)? \\", first), f"{lock} {name}: {first}"
            assert hashes, f"{lock} {name}: no hash"
            assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in hashes), f"{lock} {name}"


def test_every_dependency_is_locked() -> None:
    assert names(PROJECT["project"]["dependencies"]) - set(pinned("runtime")) == set()
    assert dependencies() - set(pinned("test")) == set()


def test_every_dependency_has_its_reason() -> None:
    reasons = (ROOT / "docs" / "adr" / "0002-dependencies.md").read_text()
    assert [name for name in sorted(dependencies()) if f"| {name} |" not in reasons] == []


def test_the_version_is_one() -> None:
    assert PROJECT["project"]["version"] == truetape.__version__


def test_every_verb_is_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    verbs = set(re.findall(r"^([a-z-]+):.*##", makefile, re.MULTILINE))
    wanted = {
        "setup",
        "demo",
        "test",
        "check",
        "fmt",
        "bench",
        "bench-go",
        "bench-cryptofeed",
        "peers",
        "soak",
        "docs",
        "lock",
        "clean",
    }
    assert wanted - verbs == set()


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [(["SECONDS=7"], {}, "demo --seconds 7"), ([], {"SECONDS": "99"}, "demo"), ([], {}, "demo")],
    ids=["given", "a-shell-variable", "absent"],
)
def test_the_demo_takes_its_seconds_from_the_command_line_only(
    arguments: list[str], environment: dict[str, str], expected: str
) -> None:
    make = ["make", "--no-print-directory", "--dry-run", "demo", *arguments]
    run = {"PATH": "/usr/bin:/bin", **environment}
    said = subprocess.run(make, cwd=ROOT, env=run, capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1].rstrip().endswith(f"-m truetape {expected}")


def test_a_gateway_without_tokens_sinks_or_traces_does_not_carry_their_libraries() -> None:
    heavy = (
        "cryptography",
        "jwt",
        "aiohttp",
        "structlog",
        "nats",
        "redis",
        "opentelemetry",
        "pyarrow",
        "pandas",
        "polars",
    )
    code = f"import sys, truetape.app.live; print([name for name in {heavy} if name in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    run = [sys.executable, "-c", code]
    assert subprocess.run(run, capture_output=True, text=True, check=True, env=environment).stdout == "[]\n"

"""Builds what is not Python: the sender (gcc), the Go baselines, and cryptofeed's environment.

Everything lands in bench/build, which git ignores, and is built again when its source is newer. What cannot be built
here is None with a reason in `MISSING`: the harness says so and leaves the figures out.
"""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE / "build"
GO_SOURCES = Path("/usr/share/gocode")  # where Debian's golang-github-*-dev packages put theirs
GO_PACKAGES = ("github.com/gorilla/websocket", "github.com/valyala/fastjson")
MISSING: dict[str, str] = {}


def sender() -> list[str]:
    """The command of the sender: C where a compiler is, else Python."""
    sources = sorted((HERE / "sender").glob("*.[ch]"))
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        MISSING["sender"] = "no C compiler: the Python sender is used, its pace is rougher"
        return [sys.executable, "-m", "bench.sender.fallback"]
    binary = BUILD / "sender"
    if _stale(binary, sources):
        BUILD.mkdir(exist_ok=True)
        units = [str(path) for path in sources if path.suffix == ".c"]
        _run([compiler, "-O2", "-Wall", "-Wextra", "-std=gnu11", "-o", str(binary), *units])
    return [str(binary)]


def go(name: str) -> list[str] | None:
    """The command of one Go baseline: `founding_gateway`, `best_go` or `gorilla_fanout`."""
    source = HERE / "baselines" / name
    binary = BUILD / name
    if not _stale(binary, sorted(source.glob("*.go"))):
        return [str(binary)]
    compiler = shutil.which("go")
    if compiler is None:
        MISSING[name] = (
            "no Go: apt-get install golang golang-github-gorilla-websocket-dev golang-github-valyala-fastjson-dev"
        )
        return None
    BUILD.mkdir(exist_ok=True)
    debian = all((GO_SOURCES / "src" / package).is_dir() for package in GO_PACKAGES)
    env = {"GO111MODULE": "off", "GOPATH": str(GO_SOURCES)} if debian else {"GOFLAGS": "-mod=mod"}
    try:
        _run([compiler, "build", "-o", str(binary), "."], cwd=source, env=env)
    except subprocess.CalledProcessError as error:
        MISSING[name] = f"go build failed: {(error.stderr or '').strip()[-300:]}"
        return None
    return [str(binary)]


def cryptofeed(make: bool) -> list[str] | None:
    """The command of the cryptofeed baseline; its environment is made only when asked, for that takes a minute."""
    home = BUILD / "cryptofeed-venv"
    python = home / "bin" / "python"
    lock = HERE / "baselines" / "cryptofeed.lock"
    done = home / "installed"
    if not done.exists() or done.read_bytes() != lock.read_bytes():
        if not make:
            MISSING["cryptofeed"] = (
                "no environment: `make bench-cryptofeed` makes it (gcc and the Python headers needed)"
            )
            return None
        shutil.rmtree(home, ignore_errors=True)
        venv.create(home, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
        try:
            _run([*pip, "-r", str(lock.with_name("cryptofeed-build.lock"))])
            _run([*pip, "--no-build-isolation", "--no-binary", "cryptofeed", "-r", str(lock)])
        except subprocess.CalledProcessError as error:
            MISSING["cryptofeed"] = f"could not be installed: {(error.stderr or '').strip()[-300:]}"
            return None
        done.write_bytes(lock.read_bytes())
    return [str(python), str(HERE / "baselines" / "cryptofeed_offline.py")]


def _stale(binary: Path, sources: list[Path]) -> bool:
    return not binary.exists() or binary.stat().st_mtime < max(path.stat().st_mtime for path in sources)


def _run(command: list[str], cwd: Path | None = None, env: dict[str, str] | None = None) -> None:
    merged = {**os.environ, **(env or {})}
    subprocess.run(command, cwd=cwd, env=merged, check=True, capture_output=True, text=True, timeout=900)

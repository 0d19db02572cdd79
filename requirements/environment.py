"""Bring `.venv` to one of the locks: `python environment.py runtime|test`. Run by `requirements/install`.

A stamp inside `.venv` names what was installed there: the lock's content, this file, the Python and the folder. When it still
holds, nothing is done, so every verb of the Makefile can afford to ask. `test` contains `runtime` (tests/test_house.py holds the
locks to that), so a test environment serves the demo too. The package itself is not built: a `.pth` file points at `src`.
"""

import fcntl
import hashlib
import os
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
SERVED_BY = {"runtime": ("runtime", "test"), "test": ("test",)}

# Starts under sh and continues as Python: a folder with a space or a very long name breaks a plain "#!" line.
SCRIPT = """#!/bin/sh
'''exec' '{python}' "$0" "$@"
' '''
import sys

from truetape.app.cli.main import main

if __name__ == "__main__":  # a process that multiprocessing spawns reads this file again
    sys.exit(main())
"""


def stamp(lock: str) -> Path:
    return VENV / f"{lock}.stamp"


def key(lock: str) -> str:
    digest = hashlib.sha256()
    for part in (Path(__file__).read_bytes(), (ROOT / "requirements" / f"{lock}.lock").read_bytes()):
        digest.update(hashlib.sha256(part).digest())
    digest.update(f"{ROOT} {sys.version_info[:2]}".encode())
    return digest.hexdigest()


def runs(*arguments: str) -> bool:
    """Whether the venv's Python is there and can do this: an upgrade of the system's Python leaves a dead link behind."""
    try:
        return subprocess.run([PYTHON, *arguments], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def served(lock: str) -> bool:
    stamps = [(stamp(name), key(name)) for name in SERVED_BY[lock]]
    return any(path.is_file() and path.read_text() == wanted for path, wanted in stamps) and runs("-c", "")


def make_venv() -> None:
    version = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    if not (runs("-c", version) and runs("-m", "pip", "--version")):
        venv.create(VENV, clear=True, with_pip=True, symlinks=True)
    for name in SERVED_BY:
        stamp(name).unlink(missing_ok=True)  # whatever was there is no longer known until the new lock is in


def install(lock: str) -> None:
    path = ROOT / "requirements" / f"{lock}.lock"
    pip = [PYTHON, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-input"]
    # Wheels only: a missing wheel is a clear message at once instead of a compiler's, minutes later.
    done = subprocess.run([*pip, "--require-hashes", "--only-binary", ":all:", "-r", path], check=False)
    if done.returncode:
        sys.exit(
            f"pip could not install {path.relative_to(ROOT)} (its reason is above); nothing was marked as installed"
        )


def add_package() -> None:
    site = VENV / "lib" / "python{}.{}".format(*sys.version_info) / "site-packages"
    (site / "truetape.pth").write_text(f"{ROOT / 'src'}\n")
    script = VENV / "bin" / "truetape"
    script.write_text(SCRIPT.format(python=PYTHON))
    script.chmod(0o755)


def main() -> None:
    lock = sys.argv[1] if len(sys.argv) == 2 else ""
    if lock not in SERVED_BY:
        sys.exit(f"usage: requirements/install {'|'.join(SERVED_BY)}")
    if served(lock):
        return
    guard = os.open(ROOT, os.O_RDONLY)
    fcntl.flock(guard, fcntl.LOCK_EX)  # two verbs at once: the second waits, then finds the work done
    if served(lock):
        return
    started = time.monotonic()
    print(f"installing {lock} into .venv (Python {sys.version.split()[0]}) ...", file=sys.stderr, flush=True)
    make_venv()
    install(lock)
    add_package()
    stamp(lock).write_text(key(lock))
    print(f"installed {lock} in {time.monotonic() - started:.1f} s", file=sys.stderr)


if __name__ == "__main__":
    main()

"""What `make setup` does before there is an environment: find a Python that runs, or say what it found instead."""

import contextlib
import os
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from floors import ROOT

FIND = ROOT / "requirements" / "find-python"


def a_python(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def find(*folders: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    run = {"PATH": os.pathsep.join(map(str, folders)), **environment}
    return subprocess.run(["/bin/sh", FIND], env=run, capture_output=True, text=True, check=False)


def test_a_shim_that_does_not_run_is_passed_over(tmp_path: Path) -> None:
    a_python(tmp_path, "python3.13", "echo 'pyenv: python3.13: command not found' >&2; exit 127")
    a_python(tmp_path, "python3.11", f'exec "{sys.executable}" "$@"')
    found = find(tmp_path)
    assert (found.returncode, found.stdout.strip()) == (0, str(tmp_path / "python3.11"))


def test_an_old_python_is_named_with_what_is_needed(tmp_path: Path) -> None:
    a_python(tmp_path, "python3.13", "exit 127")
    a_python(tmp_path, "python3", 'case "$2" in *platform*) echo 3.9.2;; *) exit 1;; esac')
    found = find(tmp_path)
    assert found.returncode == 1
    assert "needs Python 3.11 or newer" in found.stderr
    assert "python3: is 3.9.2" in found.stderr
    assert "python3.13: does not run" in found.stderr


def test_a_python_without_venv_is_told_how_to_get_it(tmp_path: Path) -> None:
    a_python(tmp_path, "python3.12", 'case "$2" in *platform*) echo 3.12.1;; *ensurepip*) exit 1;; esac')
    found = find(tmp_path)
    assert found.returncode == 1
    assert "python3-venv" in found.stderr


def test_a_named_python_overrules_the_search(tmp_path: Path) -> None:
    a_python(tmp_path, "python3.13", f'exec "{sys.executable}" "$@"')
    a_python(tmp_path, "mine", f'exec "{sys.executable}" "$@"')
    assert find(tmp_path, PYTHON="mine").stdout.strip() == str(tmp_path / "mine")
    assert find(tmp_path, PYTHON=str(tmp_path / "absent")).returncode == 1


def test_setup_installs_once_and_serves_the_demo_too(tmp_path: Path) -> None:
    """In a folder with a space, with locks that ask for nothing: no index is needed."""
    house = tmp_path / "a house"
    (house / "src" / "truetape").mkdir(parents=True)
    (house / "src" / "truetape" / "__init__.py").write_text("here = True\n")
    (house / "requirements").mkdir()
    for name in ("install", "find-python", "environment.py"):
        shutil.copy(ROOT / "requirements" / name, house / "requirements")
    for lock in ("runtime", "test"):
        (house / "requirements" / f"{lock}.lock").write_text(f"# nothing for {lock}\n")

    def install(lock: str) -> str:
        run = [house / "requirements" / "install", lock]
        return subprocess.run(run, capture_output=True, text=True, check=True).stderr

    assert "installed test" in install("test")
    assert install("test") == ""
    assert install("runtime") == "", "what serves the tests serves the demo"
    imported = [house / ".venv" / "bin" / "python", "-c", "import truetape; print(truetape.here)"]
    assert subprocess.run(imported, capture_output=True, text=True, check=True).stdout == "True\n"

    (house / "requirements" / "runtime.lock").write_text("# another nothing\n")
    assert install("test") == "", "its own lock still holds"
    (house / "requirements" / "test.lock").write_text("# another nothing\n")
    assert "installed runtime" in install("runtime")
    assert "installed test" in install("test"), "the stamp of what was there before is gone"

    (house / ".venv" / "bin" / "python").unlink()
    (house / ".venv" / "bin" / "python").symlink_to("/nowhere/python3")
    assert "installed test" in install("test"), "a Python that is gone is replaced"


def test_the_installed_script_can_spawn_processes_of_its_own(tmp_path: Path) -> None:
    """A spawned process reads the main script again: without a guard each would start the command anew, without end."""
    made = runpy.run_path(str(ROOT / "requirements" / "environment.py"))["SCRIPT"]
    script = tmp_path / "truetape"
    script.write_text(made.format(python=sys.executable))
    script.chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    run = [script, "simtest", "--seeds", "2", "--processes", "2"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(run, cwd=tmp_path, env=environment, start_new_session=True, **pipes) as started:
        try:
            out, err = started.communicate(timeout=100)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)  # nothing that it spawned outlives the test
    assert (started.returncode, out.count(" ok ")) == (0, 2), err[-2000:]

"""Programs of tests, each in an interpreter of its own."""

import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

# A test run in the background hands an ignored Ctrl-C on; a terminal does not.
AT_A_TERMINAL = """import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from foremask.__main__ import main
sys.exit(main())
"""


def shell(script: str, folder: Path, environ: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(  # noqa: S603
        ["bash", "-euc", script],  # noqa: S607
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def fresh(
    code: str,
    *words: str | Path,
    **more: Any,  # noqa: ANN401  # subprocess.run's
) -> subprocess.CompletedProcess[str]:
    """Run ``code`` with these arguments; raises CalledProcessError unless ``check`` is False."""
    command = [sys.executable, "-c", code, *map(str, words)]
    usual = {"capture_output": True, "text": True, "check": True, "timeout": 300}
    return subprocess.run(command, **usual | more)  # noqa: S603


def children(pid: int) -> set[int]:
    """The processes that a process has started, by whichever thread."""
    with suppress(OSError):  # it may be gone
        of_threads = Path(f"/proc/{pid}/task").glob("*/children")
        return {int(each) for found in of_threads for each in found.read_text().split()}
    return set()


def is_gone(process: int) -> bool:
    """Whether it no longer runs; a zombie that its new parent has not buried does not."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return True
    return stat.rpartition(")")[2].split()[0] in "ZX"

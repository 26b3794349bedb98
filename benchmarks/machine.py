"""Options, tables, and facts about the machine, for all benchmarks."""

import datetime
import os
import platform
import subprocess
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cyclopts import App, Parameter

PACKAGES = ("av", "numpy", "opencv-python-headless", "openvino", "foremask")


def run(main: Callable[..., object], about: str | None) -> None:
    """Call ``main`` with the words of the command line, and exit with its result.

    Keyword arguments are options: False makes a switch, and a sequence takes several words.
    """
    several = Parameter(consume_multiple=True, negative="")
    app = App(help=about, help_format="plaintext", version_flags=[], default_parameter=several)
    app.default(main)
    app()


def header(*columns: str) -> None:
    row(*columns)
    print("|---" * len(columns) + "|", flush=True)


def row(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def facts() -> dict[str, Any]:
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "processor": cpu[0].partition(":")[2].strip() if cpu else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "commit": commit.stdout.strip(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }

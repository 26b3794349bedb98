"""What the programs share: their options, their tables, and where and with what they ran."""

import argparse
import datetime
import os
import platform
import subprocess
from argparse import Namespace
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("av", "numpy", "opencv-python-headless", "openvino", "foremask")


def options(about: str | None, *required: str, **defaults: Any) -> Namespace:  # noqa: ANN401
    """The words of the command line: those that are required, and an option for each default.

    An option has its default's type; False is a switch, and a list takes several words.
    """
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=about, formatter_class=plain)
    for name in required:
        parser.add_argument(name.strip("."), nargs="+" if name.endswith("...") else None)
    for name, default in defaults.items():
        option = f"--{name.replace('_', '-')}"
        if default is False:
            parser.add_argument(option, action="store_true")
        elif isinstance(default, list):
            parser.add_argument(option, nargs="*", default=default, type=type([*default, ""][0]))
        else:
            parser.add_argument(option, default=default, type=type(default))
    return parser.parse_args()


def header(*columns: str) -> None:
    row(*columns)
    print("|---" * len(columns) + "|", flush=True)


def row(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def facts() -> dict[str, Any]:
    """Processor, cores, versions, commit and date, for the JSON of every benchmark."""
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

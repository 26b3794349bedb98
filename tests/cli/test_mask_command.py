import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import cv2
import imageio_ffmpeg
import numpy as np
import pytest
from _pytest.mark import ParameterSet

from foremask.cli.batch_options import HintOptions
from foremask.cli.commands import main
from foremask.cli.exits import Exit
from foremask.cli.products import mask_product, plan_jobs
from foremask.cli.sources import find_sources
from foremask.hints.kinds import Box, Paint, Point
from foremask.machine import paths
from foremask.media.probe import probe
from foremask.media.verify import verify
from foremask.options import ResultKind
from foremask.types import Rgb
from tests.support import networks, synth
from tests.support.http_server import serving_files
from tests.support.patience import PATIENCE_S
from tests.support.programs import AT_A_TERMINAL, Run, shell

THREE_FRAMES = synth.Spec(pts=(0, 1000, 2000))


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("footage")
    for name in ("clip 9.mp4", "clip 10.mov", "deep/clip 9.mp4", ".hidden.mp4"):
        (folder / name).parent.mkdir(exist_ok=True)
        synth.write(folder / name, THREE_FRAMES)
    synth.write(folder / "clip 9.mask.mp4", THREE_FRAMES, synth.greys(THREE_FRAMES))
    (folder / "text.webm").write_text("not a clip\n" * 100)
    (folder / "notes.txt").write_text("of the day")
    for number in range(8, 12):
        save(folder / "frames" / f"{number:03}.png", synth.disc(64, 48, number / 12)[0])
    save(folder / "frames" / "deeper" / "9.jpg", synth.disc(64, 48, 0.5)[0])
    networks.redness(folder, bias=-5.0)
    return folder


def save(path: Path, picture: Rgb) -> None:
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), picture[:, :, ::-1])


@pytest.fixture
def here(footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(footage, tmp_path / "footage")
    monkeypatch.chdir(tmp_path / "footage")
    monkeypatch.setenv("FOREMASK_MODEL_FILE", str(footage / "redness.onnx"))
    return tmp_path / "footage"


def checksums(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


MAKES: list[tuple[tuple[str, ...], int, set[str]]] = [
    # one clip
    (("clip 10.mov",), 0, {"clip 10.mask.mp4"}),
    (("clip 10.mov", "--preset", "mov_proresks"), 0, {"clip 10.mask.mov"}),
    (("clip 10.mov", "-o", "new/"), 0, {"new/clip 10.mask.mp4"}),
    (("clip 10.mov", "-o", "deep"), 0, {"deep/clip 10.mask.mp4"}),
    (("clip 10.mov", "-o", "a/b/{name}{ext}"), 0, {"a/b/clip 10.mov.mp4"}),
    (("clip 9.mp4", "--force"), 0, set()),
    # several
    (("clip 10.mov", "./clip 10.mov"), 0, {"clip 10.mask.mp4"}),
    (("deep",), 0, {"deep/clip 9.mask.mp4"}),
    ((".", "-r", "-o", "masks/", "--quality", "fast", "--fps", "25"), 1,
     {"masks/frames.mask.mp4", "masks/frames/deeper.mask.mp4", "masks/clip 9.mask.mp4",
      "masks/clip 10.mask.mp4", "masks/deep/clip 9.mask.mp4"}),
    (("**/clip*", "-o", "{dir}/{name}.mask.webm"), 0,
     {"clip 9.mp4.mask.webm", "clip 10.mov.mask.webm", "deep/clip 9.mp4.mask.webm"}),
    # pictures: one by one, or as a clip
    (("frames/008.png",), 0, {"frames/008.mask.png"}),
    (("frames", "-o", "masks/"), 0, {f"masks/{n:03}.mask.png" for n in range(8, 12)}),
    (("frames", "--fps", "24000/1001", "-r"), 0, {"frames.mask.mp4", "frames/deeper.mask.mp4"}),
    (("clip 10.mov", "frames/008.png"), 0, {"clip 10.mask.mp4", "frames/008.mask.png"}),
    # the rest is masked where one fails
    (("text.webm", "clip 10.mov"), 1, {"clip 10.mask.mp4"}),
    (("text.webm", "clip 10.mov", "--fail-fast"), 1, set()),
    # the shell's star, with the masks of last time
    (("clip 10.mov", "clip 9.mask.mp4", "clip 9.mp4", "--skip-existing"), 0, {"clip 10.mask.mp4"}),
    (("clip 9.mask.mp4",), 0, {"clip 9.mask.mask.mp4"}),
]  # fmt: skip

NOWHERE = "http://127.0.0.1:9/clip.mp4"
OTHERS: list[tuple[tuple[str, ...], int, set[str]]] = [
    (("sheet", "clip 9.mp4", "--moments", "2"), 0, {"clip 9.sheet.png"}),
    (("sheet", "clip 9.mp4", "-o", "clip 9.mask.mp4"), 6, set()),
    (("cutout", "clip 10.mov", "-o", "clip 9.mp4", "--background", "blur"), 6, set()),
    (("cutout", "clip 10.mov", "deep/clip 9.mp4", "-o", "cut/", "-q", "--threads", "1"), 0,
     {"cut/clip 10.cutout.webm", "cut/clip 9.cutout.webm"}),
    (("cutout", "clip 10.mov", "--mask", "clip 9.mask.mp4", "-o", "c.gif", "-v"), 0, {"c.gif"}),
    (("cutout", "clip 10.mov", "--mask", "clip 9.mask.mp4", "-o", "new/%d.png"), 0,
     {"new/1.png", "new/2.png", "new/3.png", "new/frames.csv"}),
    (("cutout", "clip 10.mov", "--mask", "clip 9.mask.mp4", "-o", "new/%d.png", "--first-number",
      "1001"), 0, {"new/1001.png", "new/1002.png", "new/1003.png", "new/frames.csv"}),
    (("cutout", "clip 10.mov", "-o", "new/%d.png", "--first-number", "-1"), 2, set()),
    (("cutout", "frames/%03d.png", "-o", "cut/s.%04d.png"), 0,
     {"cut/s.0008.png", "cut/s.0009.png", "cut/s.0010.png", "cut/s.0011.png", "cut/frames.csv"}),
    (("cutout", "frames/%03d.png", "-o", "cut/s.%04d.png", "--start", "0.04"), 0,
     {"cut/s.0009.png", "cut/s.0010.png", "cut/s.0011.png", "cut/frames.csv"}),
    (("cutout", "clip 10.mov", "--mask", "clip 9.mask.mp4", "-o", "clip 9.mask.mp4", "-f",
      "--background", "white"), 6, set()),
    (("cutout", "clip 10.mov", "--start", "0.02", "-o", "c.mkv"), 0, {"c.mkv"}),
    (("cutout", "frames/008.png"), 0, {"frames/008.cutout.png"}),
    (("cutout", "frames/deeper/9.jpg", "-o", "cut.png", "--background", "blur"), 0, {"cut.png"}),
    (("cutout", "frames/008.png", "--mask", "frames/009.png", "-o", "cut.png"), 0, {"cut.png"}),
    (("cutout", "deep", "-r", "--preset", "gif"), 0, {"deep/clip 9.cutout.gif"}),
    (("tracks", "clip 10.mov", "-o", "frames/008.png"), 6, set()),
    # before anything is downloaded
    (("cutout", NOWHERE, "-o", "frames/%03d.png"), 6, set()),
    (("cutout", NOWHERE, "-o", "clip 9.mp4", "-f", "--background", "clip 9.mp4"), 2, set()),
]  # fmt: skip


def test_pictures_that_are_a_clip_are_taken_wherever_a_clip_is(here: Path, run: Run) -> None:
    pictures = "frames/%03d.png"
    run("mask", pictures, "-o", "m.mp4", "--fps", "30")
    assert "4 frames" in run("probe", pictures).out
    assert "kept: pts: within" in run("verify", pictures, "m.mp4", "--fps", "30").out
    assert "pts" in run("verify", pictures, "m.mp4", code=Exit.PROMISE_BROKEN).err
    assert run("sheet", pictures, "m.mp4").out.strip() == "frames/frames.sheet.png"
    assert (here / "frames" / "frames.sheet.png").is_file()
    assert "frames 0 to" in run("tracks", pictures).out
    assert "no file matches" in run("probe", "frames/no%03d.png", code=Exit.USAGE).err


def row_of(words: tuple[str, ...], code: int, made: set[str]) -> ParameterSet:
    marks = [pytest.mark.linux] if "--threads" in words else []  # others choose no cores
    return pytest.param(words, code, made, marks=marks, id=" ".join(words))


@pytest.mark.parametrize(("words", "code", "made"), [row_of(*row) for row in MAKES + OTHERS])
def test_what_is_made_is_whole_and_nothing_else_changes(
    here: Path, words: tuple[str, ...], code: int, made: set[str]
) -> None:
    before = checksums(here)
    is_mask = (words, code, made) in MAKES
    assert main(["mask", *words] if is_mask else [*words]) == code
    after = checksums(here)
    assert after.keys() - before.keys() == made
    changed = {name for name in before if after[name] != before[name]}
    assert changed == ({"clip 9.mask.mp4"} if "--force" in words else set())
    for name in made if is_mask else ():
        if name.endswith(".png"):
            verify(here / "frames/008.png", here / name)  # all pictures have one size
        elif "frames" not in " ".join((*words, name)):
            verify(here / "clip 9.mp4", here / name)  # all clips are alike


def test_numbered_pictures_are_not_replaced_by_their_own_cut_outs(here: Path, run: Run) -> None:
    shutil.rmtree(here / "frames" / "deeper")
    before = checksums(here)
    words = "cutout", "frames/%03d.png", "-o", "frames/%03d.png", "--force"
    assert "the output is the input" in run.refused(*words, code=6)
    assert checksums(here) == before


def test_of_several_files_one_named_like_an_output_is_left_out_with_a_warning(
    here: Path, run: Run
) -> None:
    words = ("mask", "clip 10.mov", "clip 9.mask.mp4")
    assert "warning: clip 9.mask.mp4 is named like an output" in run(*words).err
    assert not (here / "clip 9.mask.mask.mp4").exists()
    assert run(*words, "--force", "--quiet").err == ""


BROKEN_OFF: list[tuple[str, ...]] = [
    ("mask", "long.mp4"),
    ("mask", "long.mp4", "-o", "m.mov"),
    ("mask", "long.mp4", "-o", "m.mp4", "--quiet"),
    ("mask", "long.mp4", "-o", "out/{name}.mov", "--preset", "mov_proresks", "--json"),
    ("mask", "long.mp4", "-o", "clip 9.mask.mp4", "--force"),
    ("mask", "long.mp4", "clip 10.mov", "-o", "both/"),
    ("cutout", "long.mp4", "-o", "c.mov"),
    ("cutout", "long.mp4", "-o", "c.mp4", "--background", "#00ff00"),
    ("cutout", "long.mp4", "-o", "c.mkv"),
    ("mask", "long.mp4", "-o", "m.webm"),
]


# Loads the libraries once: ten interpreters that each load them took longer than all the rest.
ALL_AT_ONCE = """import json, os, signal, sys
import foremask.masking.cut_out, foremask.masking.runner
from foremask.cli.commands import main
signal.signal(signal.SIGINT, signal.default_int_handler)
processes = []
for words in json.loads(sys.argv[1]):
    processes.append(os.fork())
    if not processes[-1]:
        os._exit(main(words))
print(json.dumps(processes), flush=True)
print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(each, 0)[1]) for each in processes]))
"""


@pytest.mark.slow
def test_ten_commands_that_are_broken_off_leave_the_footage_as_it_was(here: Path) -> None:
    """While they write, one half gets Ctrl-C, which leaves nothing, and one half kill -9.

    kill -9 leaves one hidden file of a command, or two where a QuickTime file is made from another,
    and the lock of each.
    """
    synth.write(here / "long.mp4", synth.Spec(pts=tuple(range(0, 900_000, 1_000))))
    before = checksums(here)
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", ALL_AT_ONCE, json.dumps(BROKEN_OFF)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as driver:
        assert driver.stdout is not None
        waiting = dict(enumerate(json.loads(driver.stdout.readline())))
        while waiting:
            for number, process in list(waiting.items()):
                if _writes(process, here):
                    os.kill(process, signal.SIGINT if number % 2 else signal.SIGKILL)
                    del waiting[number]
            assert not waiting or driver.poll() is None
            time.sleep(0.01)
        codes = json.loads(driver.stdout.readlines()[-1])
    assert codes == [-signal.SIGKILL, Exit.INTERRUPTED] * 5
    after = checksums(here)
    assert {name: after[name] for name in before} == before
    left = {Path(name).name for name in after.keys() - before.keys()}
    assert all(name.startswith(".") for name in left), left
    without_locks = {name for name in left if not name.endswith(".lock")}
    assert len(without_locks) <= 2 * codes.count(-signal.SIGKILL)
    assert len(left) <= 4 * codes.count(-signal.SIGKILL)


def _writes(pid: int, folder: Path) -> bool:
    """Whether a process has opened a hidden file below ``folder``."""
    with contextlib.suppress(OSError):
        for opened in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                path = opened.readlink()
                if path.is_relative_to(folder) and path.name.startswith("."):
                    return True
    return False


def test_names_are_any_text(tmp_path: Path) -> None:
    for name in ("1²2.mp4", "1³.mp4", "12.mp4", "٣.mp4"):
        (tmp_path / name).write_bytes(b"clip")
    found = [source.path.name for source in find_sources([str(tmp_path)])]
    assert found == ["1²2.mp4", "1³.mp4", "٣.mp4", "12.mp4"]
    for end, name in (("%2e%2e", "clip"), ("..", "clip"), ("a%2f%2e%2e", "clip"), ("%00", "clip")):
        (source,) = find_sources([f"http://127.0.0.1/{end}"])
        (job,) = plan_jobs([source], "out/{stem}/m.mp4", mask_product(None))
        assert job.target == Path("out") / name / "m.mp4"


def test_json_is_one_line_for_each_input_and_the_summary_names_the_failures(
    here: Path, run: Run
) -> None:
    words = ("clip 10.mov", "clip 9.mp4", "text.webm", "--skip-existing", "--json")
    out, err = run("mask", *words, code=Exit.INTERNAL)
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["outcome"] for line in lines] == ["masked", "skipped", "failed"]
    assert [line["input"] for line in lines] == list(words[:3])
    assert (lines[0]["frames_out"], lines[0]["output"]) == (3, "clip 10.mask.mp4")
    assert lines[2]["error"]["reason"] == "not_a_video"
    assert err.splitlines()[-2:] == [
        "done: 1 masked, 1 skipped, 1 failed",
        "  failed: text.webm [not_a_video]",
    ]


def test_outputs_that_exist_are_told_once_with_what_to_do(here: Path, run: Run) -> None:
    for name in ("clip 10.mov", "deep/clip 9.mp4"):
        run("mask", name)
    words = ("mask", "clip 10.mov", "clip 9.mp4", "deep/clip 9.mp4")
    said = run(*words, code=Exit.INTERNAL).err.splitlines()
    keeps = "--skip-existing keeps it if it is whole, --force replaces it. [output_failed]"
    assert said == [
        f"error: clip 10.mov: clip 10.mask.mp4 exists already. {keeps}",
        "done: 3 failed",
        "  failed: 3 outputs exist already [output_failed]",
    ]
    run(*words, "--skip-existing", code=Exit.OK)


def test_a_mask_that_is_not_whole_is_not_skipped(here: Path, run: Run) -> None:
    made = here / "clip 9.mask.mp4"
    synth.write(made, synth.Spec(pts=(0, 1000)), synth.greys(synth.Spec(pts=(0, 1000))))
    before = made.read_bytes()
    words = ("mask", "clip 9.mp4", "--skip-existing")
    reason = "no whole mask of clip 9.mp4 (The source goes on after 2 frames.)"
    assert reason in run(*words, code=Exit.OUTPUT_FAILED).err
    assert made.read_bytes() == before
    run(*words, "--force")
    verify(here / "clip 9.mp4", made)


def test_quiet_says_nothing_where_all_goes_well(
    here: Path, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """It does not say either that the network's results cannot be kept there."""
    assert run("mask", "clip 10.mov", "-q", "--cache", "/proc/kept") == ("", "")
    assert caplog.text == ""


def wait_for_first_bytes(process: subprocess.Popen[str], folder: Path) -> None:
    """Wait until the command has written to the mask of long.mp4."""
    while not any(part.stat().st_size for part in folder.glob(".long.mask.*")):
        assert process.poll() is None
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, Exit.INTERRUPTED), (signal.SIGTERM, Exit.TERMINATED)],
)
def test_an_interrupted_batch_keeps_what_is_done_and_says_so(
    here: Path, number: signal.Signals, code: Exit
) -> None:
    synth.write(here / "long.mp4", synth.Spec(pts=tuple(range(0, 600_000, 1_000))))
    before = checksums(here)
    words = ["mask", "clip 10.mov", "long.mp4", "deep/clip 9.mp4"]
    command = [sys.executable, "-c", AT_A_TERMINAL, *words]
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True) as process:  # noqa: S603
        assert process.stdout is not None
        assert process.stdout.readline().startswith("clip 10.mask.mp4: 3 frames")
        wait_for_first_bytes(process, here)
        process.send_signal(number)
        _, message = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == code
    stopped = "stopped: 1 masked, 1 not begun, 1 broken off"
    assert message.endswith(f"{stopped}; the same command with --skip-existing goes on\n")
    assert checksums(here).keys() - before.keys() == {"clip 10.mask.mp4"}
    verify(here / "clip 10.mov", here / "clip 10.mask.mp4")


@pytest.mark.slow
def test_a_mask_that_was_stopped_is_gone_on_with_by_the_same_command(here: Path, run: Run) -> None:
    synth.write(here / "long.mp4", synth.Spec(pts=tuple(range(0, 240_000, 1_000))))
    command = [sys.executable, "-c", AT_A_TERMINAL, "mask", "long.mp4"]
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True) as process:  # noqa: S603
        wait_for_first_bytes(process, here)
        process.send_signal(signal.SIGINT)
        out, message = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (Exit.INTERRUPTED, "")
    last = message.splitlines()[-1]
    assert re.fullmatch(r"stopped at \d+ of 240 frames; the same command goes on", last)
    (kept,) = (paths.cache_dir() / "results").glob("*.unfinished")
    goes_on = run("mask", "long.mp4", "-v").out
    assert not kept.exists()
    anew = run("mask", "long.mp4", "-v", "--force", "--no-cache").out
    assert goes_on.partition("sha256")[2] == anew.partition("sha256")[2] != ""


def test_clips_of_a_folder_come_in_the_order_that_people_count(here: Path) -> None:
    (here / "clip 9.sheet.png").touch()  # ours, as the mask beside it
    found = find_sources(["."], recursive=True)
    assert [source.named for source in found] == [
        "clip 9.mp4",
        "clip 10.mov",
        "deep/clip 9.mp4",
        *(f"frames/{name}" for name in ("008.png", "009.png", "010.png", "011.png")),
        "frames/deeper/9.jpg",
        "text.webm",
    ]
    assert str(found[2].below) == "deep"


def test_a_part_has_its_own_times_and_pictures_that_are_a_clip_have_its_rate(here: Path) -> None:
    words = ("--start", "0:00.02", "--end", "0.05", "-o", "m.mp4", "-q")
    assert main(["mask", "clip 10.mov", *words]) == Exit.OK
    assert synth.shown_at(here / "m.mp4") == [Fraction(1, 30) - Fraction("0.02")]
    assert main(["mask", "frames/%03d.png", "-o", "p.mp4", "--fps", "24000/1001", "-q"]) == Exit.OK
    clip = probe(here / "p.mp4")
    assert clip.frames == 4
    assert clip.duration_s == pytest.approx(4 * 1001 / 24000)


def test_a_url_is_probed_and_masked_into_the_current_directory(
    here: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOREMASK_ALLOW_PRIVATE", "127.0.0.0/8")
    monkeypatch.chdir(here / "deep")
    with serving_files(here) as url:
        probed = run("probe", f"{url}/clip%209.mp4", "--json").out
        assert run("mask", f"{url}/clip%209.mp4?v=1", "-q") == ("", "")
    assert probed == run("probe", here / "clip 9.mp4", "--json").out
    (made,) = (here / "deep").glob("*.mask.mp4")
    verify(here / "clip 9.mp4", made)


@pytest.mark.slow
def test_a_shell_completes_commands_options_choices_and_files(here: Path) -> None:
    script = f"""set +eu; . <({sys.executable} -m foremask completion bash)
ask() {{ COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _foremask; echo "${{COMPREPLY[@]}}"; }}
ask foremask ma; ask foremask mask --qual; ask foremask mask --quality be
ask foremask mask notes; ask foremask mask notes.txt -o no"""
    shown = shell(script, here).splitlines()
    assert shown == ["mask", "--quality", "best", "notes.txt", "notes.txt"]


def test_help_fits_one_screen_with_three_examples_on_top(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    shown = run("mask", "--help").out
    assert shown.count("\n") <= 42
    assert "\x1b" not in shown
    assert [line.startswith("foremask mask ") for line in shown.splitlines()[4:7]] == [True] * 3


def test_a_folder_for_a_matting_tool_is_made_once_and_kept(here: Path, run: Run) -> None:
    words = ["mask", "clip 10.mov", "frames/%03d.png", "--for", "corridorkey", "-o", "for/{stem}"]
    assert "for/clip 10: 3 frames" in run(*words).out
    made = checksums(here / "for")
    assert {"clip 10/Input/000003.png", "clip 10/AlphaHint/000003.png"} < made.keys()
    again = run(*words, "--force", code=Exit.INTERNAL)  # of several: one failed
    assert "name a directory of its own" in again.err
    assert "is there already, and whole" in run(*words, "--skip-existing").out
    assert checksums(here / "for") == made
    composite = ("--kind", "composite")
    assert "kept: frames: 3\n" in run("verify", words[1], "for/clip 10", *composite).out
    (here / "for/clip 10/Input/000003.png").unlink()
    one = [words[0], words[1], *words[3:], "--skip-existing"]
    assert "no whole folder" in run(*one, code=Exit.OUTPUT_FAILED).err
    broken = run("verify", words[1], "for/clip 10", *composite, code=Exit.PROMISE_BROKEN)
    assert "names Input/000003.png, and it is not there" in broken.err
    zipfile.ZipFile("empty.zip", "w").close()
    run("verify", words[1], "empty.zip", "--kind", "cutout", code=Exit.PROMISE_BROKEN)
    lacks = run("cutout", words[1], "-o", "empty.zip", "--skip-existing", code=Exit.OUTPUT_FAILED)
    assert "There is no frames.csv." in lacks.err


def test_all_options_are_hints_the_file_first(tmp_path: Path) -> None:
    (tmp_path / "hints.json").write_text('[{"type": "point", "x": 1, "y": 2}]')
    (tmp_path / "a@2.png").write_bytes(png := cv2.imencode(".png", np.zeros((48, 64)))[1].tobytes())
    options = HintOptions(
        point=["640,360@12", "640.5,360@00:01.5", "1,2@1:00:02"],
        against=["9,8@0.5s"],
        box=["1,2,30,40@2s"],
        paint=[f"{tmp_path / 'a@2.png'}@7", f"{tmp_path / 'a@2.png'}"],
        hints=tmp_path / "hints.json",
    )
    assert tuple(options.parsed().values()) == (
        Point(1, 2),
        Paint(png, frame=7),
        Paint(png),
        Box(1, 2, 30, 40, time_s=2),
        Point(640, 360, frame=12),
        Point(640.5, 360, time_s=1.5),
        Point(1, 2, time_s=3602),
        Point(9, 8, time_s=0.5, negative=True),
    )


def test_a_warning_names_a_hint_as_it_was_typed(here: Path, run: Run) -> None:
    words = ("--point", "30,20@1", "--not", "30,20@1", "--quality", "fast")
    said = run("mask", "clip 10.mov", "-o", "m.mp4", *words).err
    assert "--not 30,20@1 contradicts --point 30,20@1: the later one counts" in said


def test_a_cut_out_is_described_verified_and_never_replaced(here: Path, run: Run) -> None:
    answer = json.loads(run("cutout", "clip 10.mov", "--quality", "fast", "--json").out)
    made = answer["output"], answer["kind"], answer["frames_out"]
    assert made == ("clip 10.cutout.webm", "cutout", 3)
    verified = run("verify", "clip 10.mov", "clip 10.cutout.webm", "--kind", "cutout")
    assert "kept: alpha: 3 frames" in verified.out
    words = ["-o", "made.mp4", "--background", "white", "--feather", "2", "--quality", "best"]
    assert "made.mp4: composite, 3 frames" in run("cutout", "clip 10.mov", *words).out


STREAMED = {
    "mp4": ("-c", "copy", "-f", "mp4", "-movflags", "frag_keyframe+empty_moov"),
    "mkv": ("-c", "copy", "-f", "matroska"),
    "webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-c:a", "libopus", "-f", "webm"),
    "nut": ("-c", "copy", "-f", "nut"),
}
"""What ffmpeg writes to a pipe."""
RAW = ("-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "gray", "-")


def ffmpeg(*words: str, given: bytes = b"") -> bytes:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", *words]
    ran = subprocess.run(command, input=given, stdout=subprocess.PIPE, check=True)  # noqa: S603
    return ran.stdout


def pipe(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.mark.parametrize("container", STREAMED)
def test_a_clip_goes_in_by_a_pipe_and_its_mask_comes_out(
    here: Path,
    container: str,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    heard = synth.write(here / "heard.mp4", replace(THREE_FRAMES, sound=(synth.Tone(),)))
    streamed = ffmpeg("-i", str(heard), *STREAMED[container], "-")
    capfdbinary.readouterr()
    pipe(monkeypatch, streamed)
    assert main(["mask", "-", "-o", "-", "--preset", "mkv_h264"]) == Exit.OK
    answer = capfdbinary.readouterr()
    assert b"standard output: 3 frames" in answer.err
    (here / "source").write_bytes(streamed)
    (here / "mask.mkv").write_bytes(answer.out)
    assert verify(here / "source", here / "mask.mkv")
    raw = ffmpeg("-i", "-", *RAW, given=answer.out)
    assert len(raw) == 3 * 64 * 48
    assert {each.name for each in here.glob("*mask*")} == {"clip 9.mask.mp4", "mask.mkv"}


def test_a_photo_is_cut_out_between_pipes(
    here: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    jpeg = cv2.imencode(".jpg", synth.disc(64, 48, 0.5)[0][:, :, ::-1])[1].tobytes()
    pipe(monkeypatch, jpeg)
    assert main(["cutout", "-", "-o", "-", "-q"]) == Exit.OK
    answer = capfdbinary.readouterr()
    assert answer.err == b""
    picture = cv2.imdecode(np.frombuffer(answer.out, np.uint8), cv2.IMREAD_UNCHANGED)
    assert picture is not None
    assert picture.shape == (48, 64, 4)
    pipe(monkeypatch, (here / "clip 10.mov").read_bytes())
    assert main(["cutout", "-", "-o", "cut.mkv"]) == Exit.OK
    assert verify(here / "clip 10.mov", here / "cut.mkv", ResultKind.CUTOUT)


def test_the_mask_of_a_pipe_wants_a_name(
    here: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    pipe(monkeypatch, b"\0\0\0\x18ftypmp42")
    reason = "-o stdin.mask.mp4 makes a file, -o - writes"
    assert reason in run("mask", "-", code=Exit.USAGE).err


class DiskUsage(NamedTuple):
    """What `shutil.disk_usage` returns."""

    total: int
    used: int
    free: int


def test_a_pipe_without_end_is_stopped_before_the_disk_is_full(
    here: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: DiskUsage(100 << 30, 0, 1 << 29))
    pipe(monkeypatch, bytes(200_000))
    stopped = run("mask", "-", "-o", "m.mp4", code=Exit.OUTPUT_FAILED)
    assert "which is nearly full after 0 MB: 537 of 107374 MB are free" in stopped.err
    assert not list(here.glob("*m.mp4*"))


def test_a_small_tmp_takes_a_small_clip_from_a_pipe(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: DiskUsage(64 << 20, 0, 60 << 20))
    pipe(monkeypatch, (here / "clip 10.mov").read_bytes())
    assert main(["mask", "-", "-o", "m.mp4"]) == Exit.OK
    assert verify(here / "clip 10.mov", here / "m.mp4")

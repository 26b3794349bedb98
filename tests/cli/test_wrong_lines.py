"""Mistakes of new users: each ends in a sentence that says what would be right."""

import json
import shlex
from importlib.metadata import version
from pathlib import Path

import cv2
import pytest

from tests.support import networks, synth
from tests.support.programs import Run

LINES = [
    # no command, or not ours
    ("clip.mp4", 2, "did you mean `foremask mask clip.mp4`?"),
    ("masks clip.mp4", 2, 'Did you mean "mask"?'),
    ("help nonsense", 2, "there is no command nonsense"),
    ("version 1", 2, "`foremask version` takes no 1"),
    # inputs
    ("mask", 2, "INPUT is missing"),
    ("mask nothing.mp4", 2, "there is no file nothing.mp4. [usage]"),
    ("mask notes.txt", 3, "The file is text"),
    ("mask folder", 2, "there is no clip in folder; --recursive"),
    ("mask *.mov", 2, "no file matches *.mov"),
    ('mask ""', 2, "'' is empty: is a variable of the shell not set?"),
    ("mask rtsp://camera/stream", 4, "Only http and https"),
    # outputs
    ("mask clip.mp4 out.mp4", 2, "foremask mask clip.mp4 -o out.mp4"),
    ("mask clip.mp4 -o out.avi", 2, "let it end in .mp4, .webm, .mov, .mkv, .gif"),
    ("mask clip.mp4 -o no/such/out.mp4", 6, "there is no directory no/such"),
    ("mask clip.mp4 -o {stem", 2, "cannot be read: it knows {stem}"),
    ("mask clip.mp4 -o {stem:99999999999}.mp4", 2, "cannot be read: it knows {stem}"),
    ("mask clip.mp4 -o {stem.__class__}.mp4", 2, "cannot be read: it knows {stem}"),
    ("mask photo.jpg -o mask.jpg", 2, "the mask of a picture is a PNG"),
    (
        "mask made.mp4",
        6,
        "exists already. --skip-existing keeps it if it is whole, --force replaces",
    ),
    ("mask clip.mp4 -o clip.mp4 --force", 2, "OUTPUT is INPUT"),
    ("mask clip.mp4 deep/clip.mp4 -o masks/", 2, "would both be masks/clip.mask.mp4"),
    ("mask clip.mp4 made.mp4 --point 1,2", 2, "one INPUT"),
    ("mask clip.mp4 made.mp4 -o made.mp4 --force", 2, "one OUTPUT"),
    ("mask made.mp4 deep/clip.mp4 -o deep/{stem}.mp4 --force", 2, "OUTPUT is INPUT"),
    ("mask clip.mp4 deep/clip.mp4 -o deep/../deep/{name} --force", 2, "both"),
    ("mask gaps/%d.png", 2, "goes from 1 to 3, and 2 is missing"),
    ("mask gaps -o gaps/1.png --fps 25 --force", 2, "the preset does not"),
    # pipes
    ("mask - clip.mp4 -o m/", 2, "is the only INPUT"),
    ("mask clip.mp4 -o - --json", 2, "both write to standard output"),
    ("mask clip.mp4 clip.mov -o -", 2, "there is no file clip.mov"),
    ("probe -", 2, "/dev/stdin is not a file"),
    # options
    ("mask clip.mp4 --quality high", 2, 'Choose from: "fast", "balanced", "best"'),
    ("mask clip.mp4 --qualty best", 2, "Did you mean --quality?"),
    ("mask clip.mp4 --device gpu", 2, "device is one of auto, cpu, cuda[:N]"),
    ("mask clip.mp4 --model missing.onnx", 5, "missing.onnx"),
    ("mask clip.mp4 --start 1:2:3:4", 2, "a time is written as 12.5"),
    ("mask clip.mp4 --start 90", 3, "no frame is shown from 90 s on"),
    ("mask photo.jpg --start 1", 2, "photo.jpg is a picture: leave out --start and --end"),
    ("mask clip.mp4 --threads 0", 2, "--threads is 1 or more"),
    ("mask clip.mp4 -o m.mp4 --preset webm_vp9", 2, "webm_vp9 writes .webm"),
    ("mask clip.mp4 --fps fast", 2, "--fps is a rate up to 1000"),
    ("mask clip.mp4 --fps 25", 2, "--fps is of pictures that are a clip"),
    ("mask clip.mp4 -o http://host/out.mp4", 2, "OUTPUT is a file or a folder, and not http:"),
    ("mask clip.mp4 --skip-existing --start 1", 2, "leave out --start and --end"),
    ("mask clip.mp4 -q -v", 2, "cannot both be"),
    ("mask clip.mp4 --cache no/such/cache", 2, "there is no directory no/such for --cache"),
    ("mask clip.mp4 --for matanyone -o -", 2, "leave out --preset and -o -"),
    ("mask clip.mp4 --skip-existing -o -", 2, "leave out --skip-existing"),
    # folders for other tools
    ("mask clip.mp4 --for matanyone -o a.mp4", 2, "OUTPUT ends in .mp4"),
    ("mask clip.mp4 --for videomama -o {dir}", 6, "name a directory of its own"),
    ("mask photo.jpg --for videomama -o new", 2, "--fps makes a folder of them a clip"),
    # hints
    ("mask clip.mp4 --point 1", 2, "write x,y@frame"),
    ("mask clip.mp4 --point 1,1@99", 2, "the frame of --point 1,1@99 is 99; it may be from 0 to 2"),
    ("mask clip.mp4 --point 1,2@1.5", 2, "the moment of '1,2@1.5' is written as"),
    ("mask clip.mp4 --hints notes.txt", 2, "are not JSON"),
    ("mask clip.mp4 --tracker edgetam", 2, "edgetam follows what is marked, and no hint marks"),
    ("mask clip.mp4 --tracker edgetam --not 1,2", 2, "no hint marks the subject"),
    (
        "mask clip.mp4 --tracker edgetam --point 1,2",
        5,
        "`pip install ./integrations/trackers`",
    ),
    ('mask clip.mp4 --say "the red disc"', 5, "`pip install ./integrations/trackers`"),
    ('mask clip.mp4 --say " "', 2, "the text of --say ' '"),
    # cut-outs
    ("cutout clip.mp4 -o cut.mp4", 3, "mp4_h264 cannot be transparent"),
    ("cutout clip.mp4 -o cut.png", 2, "frames/%04d.png"),
    ("cutout clip.mp4 --background pink", 2, "none of transparent, black"),
    ("cutout clip.mp4 --background notes.txt", 3, "The background notes.txt"),
    ("cutout clip.mp4 --mask photo.jpg", 3, "a video is wanted here"),
    ("cutout clip.mp4 --gamma nan", 2, "gamma is nan; it may be from 0.1 to"),
    ("cutout clip.mp4 -o %04d.png", 6, "name a directory of its own"),
    ("cutout clip.mp4 --background blur:0", 2, "from 1 to 200"),
    # live, and jobs elsewhere
    ("submit folder", 2, "`submit` takes one INPUT: a file or a URL"),
    ("live /dev/video9", 2, "there is no camera or file /dev/video9"),
    ("live /dev/null", 3, "/dev/null gives no video"),
    ("live -", 2, "standard input is empty"),
    ("live rtsp://camera/stream", 2, "ffmpeg -i rtsp://camera/stream -f nut - | foremask live -"),
    ("live clip.mp4 -o out.mp4", 2, "| ffmpeg -i - out.mp4"),
    # the others
    ("probe", 2, "INPUT is missing (the clip: a file, or an http(s) URL). `foremask probe --help`"),
    ("probe photo.jpg", 2, "is a picture"),
    ("probe http://127.0.0.1/clip.mp4", 4, "[url_private]"),
    ("verify", 2, "SOURCE is missing (the clip). `foremask verify --help`"),
    ("verify nothing.mp4", 2, "there is no file nothing.mp4. [usage]"),
    ("verify clip.mp4 nothing.mp4", 2, "there is no file nothing.mp4. [usage]"),
    (
        "verify clip.mp4",
        2,
        "there is no clip.mask.mp4: name the mask, or make it with foremask mask",
    ),
    ("verify photo.jpg", 2, "there is no photo.mask.png: name the mask, or make it with"),
    ("verify clip.mp4 --kind cutout", 2, "make it with foremask cutout clip.mp4"),
    ("verify folder made.mask.mp4", 2, "folder is a folder: name a file in it"),
    (
        "verify https://host/clip.mp4 grey.mp4",
        2,
        "https://host/clip.mp4 is a URL: download it, and name the file",
    ),
    ("verify notes.txt grey.mp4", 3, "error: notes.txt: The file is text"),
    ("verify clip.mp4 notes.txt", 3, "error: notes.txt: The file is text"),
    ("verify clip.mp4 photo.jpg", 3, "error: photo.jpg: The file is a picture"),
    ("verify photo.jpg notes.txt", 3, "error: notes.txt is no picture"),
    ("verify clip.mp4 clip.mp4", 7, "has a colour"),
    ("verify clip.mp4 grey.mp4 --kind cutout", 7, "has no alpha"),
    ("sheet clip.mp4", 2, "foremask mask clip.mp4"),
    ("sheet clip.mp4 grey.mp4 --moments 0", 2, "1 to 100 can be shown"),
    ("tracks clip.mp4 -o tracks.jpg", 2, "end in .png"),
    ("tracks clip.mp4 --masks notes.txt", 6, "notes.txt cannot be made"),
    ("submit clip.mp4 --server 127.0.0.1:9 --token t", 2, "must start with http"),
    ("worker --queues nonsense", 2, "no such queue"),
    ("jobs --last 0", 2, "Must be >= 1"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("new user")
    spec = synth.Spec(pts=(0, 1000, 2000))
    for name in ("deep", "folder", "gaps"):
        (folder / name).mkdir()
    for name in ("clip.mp4", "made.mp4", "deep/clip.mp4"):
        synth.write(folder / name, spec)
    for name in ("grey.mp4", "made.mask.mp4"):
        synth.write(folder / name, spec, synth.greys(spec))
    for name in ("photo.jpg", "gaps/1.png", "gaps/3.png"):
        cv2.imwrite(str(folder / name), synth.disc(64, 48, 0.5)[0])
    networks.redness(folder, bias=-5.0)
    (folder / "notes.txt").write_text("notes")
    return folder


@pytest.mark.parametrize(("line", "code", "said"), LINES, ids=[line for line, *_ in LINES])
def test_a_wrong_line_says_what_would_be_right(
    folder: Path, monkeypatch: pytest.MonkeyPatch, run: Run, line: str, code: int, said: str
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("FOREMASK_MODEL_FILE", str(folder / "redness.onnx"))
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    out, err = run(*shlex.split(line), code=code)
    assert out == "" or "--json" in line
    assert err.splitlines()[-1].startswith("error: ")
    assert said in err
    assert "report it" not in err
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before


def test_under_json_an_error_is_json_too(run: Run) -> None:
    out, err = run("probe", "nothing.mp4", "--json", code=2)
    error = {"reason": "usage", "details": "there is no file nothing.mp4"}
    assert json.loads(out) == {"outcome": "failed", "error": error}
    assert err == "error: there is no file nothing.mp4. [usage]\n"


@pytest.mark.parametrize("line", ["help", "help mask", "mask --help", "-h", "version", "-V"])
def test_help_and_version_are_there_by_any_name(line: str, run: Run) -> None:
    out, err = run(*line.split())
    assert err == ""
    assert ("Usage: foremask" in out) != (out == f"{version('foremask')}\n")


def test_a_mask_is_opened_beside_its_clip(
    folder: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.chdir(folder)
    asked: list[str] = []

    def no_browser(url: str) -> bool:
        asked.append(url)
        return False

    monkeypatch.setattr("webbrowser.open", no_browser)
    shown = run("open", "clip.mp4", "grey.mp4").out
    assert asked[0] in shown
    page = Path(asked[0].removeprefix("file://")).read_text(encoding="utf-8")
    assert page.count((folder / "clip.mp4").as_uri()) == 2
    assert page.count((folder / "grey.mp4").as_uri()) == 2

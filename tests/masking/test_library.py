import ast
import json
import math
import os
import pydoc
import signal
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import foremask
from foremask.masking import library
from foremask.pipeline import cache_file
from tests.support import synth
from tests.support.programs import fresh, ran

SPEC = synth.Spec(width=128, height=96, pts=(0, 1000, 2000, 3000), turn=(90, False))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return synth.write(tmp_path / "clip.mov", SPEC)


@pytest.mark.slow
def test_importing_the_package_loads_nothing() -> None:
    program = (
        f"import sys; sys.path[:0] = {sys.path!r}; before = set(sys.modules); import foremask; "
        "print(*(set(sys.modules) - before))"
    )
    loaded = {name.partition(".")[0] for name in fresh(program).stdout.split()}
    assert loaded <= {"foremask"} | sys.stdlib_module_names
    assert not loaded & {"email", "json", "asyncio", "inspect"}


def test_every_name_is_there_documented_and_known_to_type_checkers() -> None:
    source = ast.parse(Path(foremask.__file__).read_text(encoding="utf-8"))
    checked = {
        alias.name
        for node in ast.walk(source)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("foremask.")
        for alias in node.names
    }
    assert checked | {"__version__"} == set(dir(foremask))
    for name in dir(foremask):
        value = getattr(foremask, name)
        assert name == "__version__" or value.__doc__, name


def test_help_of_the_package_fits_two_screens_and_names_everything() -> None:
    shown = pydoc.plain(pydoc.render_doc(foremask))
    assert shown.count("\n") <= 100
    assert {name for name in dir(foremask) if name not in shown} == {"__version__"}


PROGRAMS = """
report = foremask.mask_video("clip.mp4", quality="fast", preset="webm_vp9")
target: Path = report.target
with foremask.Masker(quality=foremask.Quality.BEST) as masker:
    frames = (rgb for _, rgb in foremask.read_frames(target))
    total: float = sum(float(alpha.mean()) for alpha in masker.mask_frames(frames))
picture = np.zeros((9, 9, 3), np.uint8)
level = float(foremask.mask_image(picture, hints=[foremask.Point(3, 4)])[0, 0])
rgba: np.ndarray = foremask.cut_out_image("photo.jpg", background="blur:8")
def show(progress: foremask.Progress) -> None:
    print(progress.frames_done, progress.frames_total)
foremask.cut_out("clip.mp4", "cut.webm", matte=foremask.Matte(grow_px=-0.5), on_progress=show)
try:
    clip: foremask.Clip = foremask.probe(Path("clip.mp4"))
except foremask.FieldInvalid as error:
    reason: str = error.reason
    wrong: ValueError = error
things = foremask.find_things("clip.mp4", device="cpu")
foremask.mask_video("clip.mp4", hints=[thing.hint for thing in things], start_s=0.5, model=None)
"""


@pytest.mark.slow
def test_the_first_programs_of_users_pass_strict_type_checks(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "from pathlib import Path\nimport numpy as np\nimport foremask\n"
        f"{PROGRAMS}foremask.mask_video('clip.mp4', quality='superb')\n"
    )
    src = str(Path(foremask.__file__).parents[1])
    settings = {"typeCheckingMode": "strict", "extraPaths": [src]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    words = ["basedpyright", "--pythonpath", sys.executable, "-p", str(tmp_path)]
    checked = ran(sys.executable, "-m", *words, check=False)
    errors = [line for line in checked.stdout.splitlines() if "error:" in line]
    last = program.read_text().count("\n")
    assert errors, checked
    assert all(f":{last}:" in line for line in errors), checked.stdout
    assert "superb" in checked.stdout


def test_a_clip_is_masked_beside_itself(clip: Path, model: Path) -> None:
    seen: list[int] = []
    report = foremask.mask_video(
        str(clip), model=model, on_progress=lambda progress: seen.append(progress.frames_done)
    )
    assert report.target == clip.with_name("clip.mask.mp4")
    assert (report.frames_out, seen[-1]) == (4, 4)
    assert any(kept.promise == "rotation" for kept in foremask.verify(clip, report.target))
    with pytest.raises(foremask.OutputFailed):
        foremask.mask_video(clip, model=model)
    again = foremask.mask_video(clip, quality="fast", model=model, replace=True)
    assert again.target == report.target


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"quality": "superb"}, "fast, balanced, best"),
        ({"device": "tpu"}, "auto, cpu, cuda"),
        ({"preset": "mp4"}, "mp4_h264"),
        ({"target": "mask.avi"}, r"\.mp4, \.webm"),
        ({"hints": [(160, 90)]}, r"hints\[0\] is a tuple; write foremask\.Point"),
        ({"end_s": -1}, "end_s"),
        ({"start_s": 2, "end_s": 1}, "is empty"),
        *(({"start_s": value}, "start_s") for value in (-1, math.nan, math.inf, 1e308)),
        *(({"end_s": value}, "end_s") for value in (math.nan, math.inf, 1e308)),
    ],
)
def test_a_wrong_argument_names_the_right_ones(
    clip: Path, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(foremask.FieldInvalid, match=message):
        foremask.mask_video(clip, **wrong)


def test_frames_and_masks_are_read_upright_with_their_times(clip: Path, model: Path) -> None:
    made = foremask.mask_video(clip, model=model).target
    frames = list(foremask.read_frames(clip))
    masks = list(foremask.read_masks(made))
    assert [pts for pts, _ in frames] == [pts for pts, _ in masks] == [0, 1000, 2000, 3000]
    for (_, rgb), (_, alpha) in zip(frames, masks, strict=True):
        assert (rgb.shape, alpha.shape) == ((128, 96, 3), (128, 96))
        red = rgb[..., 0].astype(int) - rgb[..., 1] > 90
        assert alpha[red].mean() > 0.9
        assert alpha[~red].mean() < 0.05


def test_arrays_become_alphas_one_by_one_and_in_order(model: Path) -> None:
    drawn = list(synth.draw(synth.Spec(width=128, height=96, pts=tuple(range(30)))))
    alphas = foremask.mask_frames((rgb for rgb, _ in drawn), model=model)
    for alpha, (_, truth) in zip(alphas, drawn, strict=True):
        assert alpha.shape == (96, 128)
        assert alpha.dtype == np.float32
        assert np.abs(alpha - truth / 255).mean() < 0.03
    assert list(foremask.mask_frames([], model=model)) == []


@pytest.mark.slow
def test_a_stream_that_nobody_reads_on_ends_its_threads(model: Path) -> None:
    before = threading.active_count()
    picture, _ = synth.disc(128, 96, 0.5)
    drawn = 0

    def camera() -> Any:  # noqa: ANN401
        nonlocal drawn
        while True:
            drawn += 1
            yield picture

    alphas = foremask.mask_frames(camera(), quality="fast", model=model)
    assert [next(alphas).shape for _ in range(3)] == [(96, 128)] * 3
    alphas.close()
    assert threading.active_count() == before
    assert drawn < 400


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([np.zeros((9, 9, 3))], "frame 0 is float64"),
        ([np.zeros((9, 9), np.uint8)], r"shape \(9, 9\)"),
        ([np.zeros((9, 9, 3), np.uint8), np.zeros((8, 9, 3), np.uint8)], "frame 1 is 9x8"),
    ],
)
def test_what_is_no_frame_is_refused_by_number(
    frames: list[np.ndarray[Any, Any]], message: str, model: Path
) -> None:
    with pytest.raises(foremask.FieldInvalid, match=message):
        list(foremask.mask_frames(frames, model=model))


def test_threads_share_a_masker(model: Path) -> None:
    pictures = [synth.disc(128, 96, moment)[0] for moment in (0.1, 0.9)]
    with foremask.Masker(model=model) as masker, ThreadPoolExecutor(2) as threads:
        alone = [masker.mask_image(picture) for picture in pictures]
        together = list(threads.map(masker.mask_image, 4 * pictures))
    for alpha, expected in zip(together, 4 * alone, strict=True):
        np.testing.assert_array_equal(alpha, expected)


@pytest.mark.linux
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_of_a_process_with_a_network_is_told_so_and_does_not_wait_for_ever(
    model: Path,
) -> None:
    pictures = [synth.disc(128, 96, moment)[0] for moment in (0.1, 0.9)]
    foremask.mask_image(pictures[0], model=model)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)  # what waits for threads that are not there waits for ever
        try:
            foremask.mask_image(pictures[1], model=model)
        except foremask.DeviceUnavailable as error:
            os.write(writing, error.details.encode())
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(writing)
    with os.fdopen(reading) as said:
        assert said.read().endswith("start processes with multiprocessing's method spawn")


def test_a_missing_file_is_pythons_own_error(tmp_path: Path) -> None:
    for call in (foremask.mask_video, foremask.probe, foremask.mask_image):
        with pytest.raises(FileNotFoundError):
            call(tmp_path / "nothing.png" if call is foremask.mask_image else "nothing.mp4")


def test_hints_on_arrays_choose_and_must_be_early(model: Path) -> None:
    pair = [synth.discs(128, 96, (30, 48, 20), (98, 48, 20))] * 12
    hints = [foremask.Point(30, 48, frame=5)]
    both = list(foremask.mask_frames(pair, model=model))
    left = list(foremask.mask_frames(iter(pair), model=model, hints=hints))
    assert min(both[8][48, 30], both[8][48, 98]) > 0.9
    assert left[8][48, 30] > 0.9
    assert left[8][48, 98] < 0.1
    assert foremask.mask_image(pair[0], model=model, hints=[foremask.Point(30, 48)])[48, 98] < 0.1
    for hint, said in (
        (foremask.Point(1, 1, frame=99), "last frame that is masked is 11"),
        (foremask.Point(1, 1, frame=9999), f"one of the first {library.MOST_WAITING} frames"),
        (foremask.Point(1, 1, time_s=0.5), "arrays have no times"),
        (foremask.Point(999, 1), r"hints\[0\]\.x"),
    ):
        with pytest.raises(foremask.FieldInvalid, match=said):
            list(foremask.mask_frames(pair, model=model, hints=[hint]))


def test_pictures_and_arrays_are_cut_out(tmp_path: Path, model: Path) -> None:
    picture, truth = synth.disc(128, 96, 0.5)
    cut = foremask.cut_out_image(picture, model=model)
    assert cut.shape == (96, 128, 4)
    assert np.abs(cut[..., 3].astype(int) - truth).mean() < 8
    opaque = cut[..., 3] == 255
    assert opaque.sum() > 0.95 * (truth > 250).sum()
    assert np.array_equal(cut[opaque][:, :3], picture[opaque])
    green = foremask.cut_out_image(picture, model=model, background="#00ff00")
    assert green[..., 3].min() == 255
    assert green[0, 0].tolist() == [0, 255, 0, 255]
    frames = [each for each, _ in synth.draw(synth.Spec(width=128, height=96))]
    made = list(foremask.cut_out_frames(iter(frames), model=model))
    assert {each.shape for each in made} == {(96, 128, 4)}
    assert len(made) == len(frames)
    cv2.imwrite(str(tmp_path / "photo.png"), picture[:, :, ::-1])
    alpha = foremask.mask_image(tmp_path / "photo.png", model=model)
    assert np.abs(255 * alpha - truth).mean() < 8
    report = foremask.cut_out(tmp_path / "photo.png", model=model)
    written = cv2.imread(str(report.target), cv2.IMREAD_UNCHANGED)
    assert written is not None
    assert (report.target.name, report.kind) == ("photo.cutout.png", "cutout")
    assert np.array_equal(cv2.cvtColor(written, cv2.COLOR_BGRA2RGBA), cut)


def test_kept_results_are_read_again_and_are_bounded(
    tmp_path: Path, clip: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()

    def masked(**options: Any) -> str:  # noqa: ANN401
        target = tmp_path / "mask.mp4"
        return foremask.mask_video(clip, target, model=model, replace=True, **options).sha256

    plain, first = masked(), masked(cache=kept)
    (file,) = kept.glob("*.cache")
    written = file.stat().st_mtime_ns
    assert plain == first == masked(cache=kept)
    assert [file] == list(kept.glob("*.cache"))
    assert file.stat().st_mtime_ns > written
    file.write_bytes(b"damaged")
    masked(cache=kept)
    size = file.stat().st_size
    assert size > 1000
    with zipfile.ZipFile(file) as archive:
        identity = archive.comment
        arrays = {name: archive.read(name) for name in archive.namelist()}
    arrays["0/stretched"] = arrays["complete"]  # of another shape, and intact
    with zipfile.ZipFile(file, "w") as archive:
        archive.comment = identity
        for name, array in arrays.items():
            archive.writestr(name, array)
    with pytest.raises(foremask.FieldInvalid, match="damaged at 0/stretched; they were deleted"):
        masked(cache=kept)
    assert not list(kept.iterdir())
    assert masked(cache=kept) == plain
    monkeypatch.setattr(cache_file, "_MOST_BYTES", size + size // 2)
    gone = kept / "gone.cache"
    gone.symlink_to("nowhere")  # as one that another process has just removed
    masked(cache=kept, quality="fast")
    gone.unlink()
    (left,) = kept.glob("*.cache")
    assert left != file
    left.unlink()
    left.mkdir()  # as one that may not be removed
    with pytest.raises(foremask.FieldInvalid, match="is damaged, or no file of kept"):
        masked(cache=kept, quality="fast")


def test_a_clip_that_changes_while_it_is_masked_is_refused_and_keeps_nothing(
    tmp_path: Path, clip: Path, model: Path
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    target = tmp_path / "mask.mp4"

    def overwrite(progress: foremask.Progress) -> None:
        if progress.frames_done:
            clip.write_bytes(b"another clip")

    with pytest.raises(foremask.ClipRefused, match="changed while it was masked"):
        foremask.mask_video(clip, target, model=model, cache=kept, on_progress=overwrite)
    assert not target.exists()
    assert list(kept.iterdir()) == []

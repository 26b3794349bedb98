"""The package as a program imports it: quick, typed, and what each function promises."""

import ast
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import foremask
from foremask.errors import FieldInvalid
from foremask.options import Background, BackgroundKind, CutOutOptions
from tests.support import networks, synth

SPEC = synth.Spec(width=128, height=96, pts=(0, 1000, 2000, 3000), turn=(90, False))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return networks.redness(tmp_path_factory.mktemp("model"), bias=-5.0)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return synth.write(tmp_path / "clip.mov", SPEC)


def test_importing_the_package_loads_nothing() -> None:
    """Only a little of Python's own library: it takes a few milliseconds."""
    program = (
        f"import sys; sys.path[:0] = {sys.path!r}; before = set(sys.modules); import foremask; "
        "print(*(set(sys.modules) - before))"
    )
    words = [sys.executable, "-S", "-c", program]
    ran = subprocess.run(words, capture_output=True, text=True, check=True)  # noqa: S603
    loaded = {name.partition(".")[0] for name in ran.stdout.split()}
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
    assert checked | {"__version__"} == set(foremask.__all__)
    for name in foremask.__all__:
        value = getattr(foremask, name)
        assert name == "__version__" or value.__doc__, name
    assert dir(foremask) == sorted(foremask.__all__)
    with pytest.raises(AttributeError, match="bogus"):
        _ = foremask.bogus


def test_a_program_of_ten_lines_passes_strict_type_checks(tmp_path: Path) -> None:
    """Strings for choices, paths or text for files; a wrong choice is an error."""
    program = tmp_path / "program.py"
    program.write_text(
        "from pathlib import Path\n"
        "import numpy as np\n"
        "import foremask\n"
        "report = foremask.mask_video('clip.mp4', quality='fast', preset='webm_vp9')\n"
        "target: Path = report.target\n"
        "with foremask.Masker(quality=foremask.Quality.BEST) as masker:\n"
        "    frames = (rgb for _, rgb in foremask.read_frames(target))\n"
        "    total: float = sum(float(alpha.mean()) for alpha in masker.mask_frames(frames))\n"
        "clip: foremask.Clip = foremask.probe(Path('clip.mp4'))\n"
        "level = float(foremask.mask_image(np.zeros((9, 9, 3), np.uint8))[0, 0])\n"
        "foremask.mask_video('clip.mp4', quality='superb')\n"
    )
    words = ["-m", "mypy", "--strict", "--no-error-summary", str(program)]
    ran = subprocess.run(  # noqa: S603
        [sys.executable, *words], cwd=Path(__file__).parents[2], capture_output=True, text=True
    )
    (line,) = ran.stdout.splitlines()
    assert ":11: error" in line
    assert "superb" in line


def test_a_clip_is_masked_beside_itself(clip: Path, model: Path) -> None:
    """The report says where; text is as good as a path; a second time is refused."""
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


def test_the_ending_names_the_preset(clip: Path, model: Path) -> None:
    assert foremask.mask_video(clip, clip.with_name("m.webm"), model=model).frames_out == 4
    assert foremask.probe(clip.with_name("m.webm")).codec == "vp9"
    made = foremask.mask_video(clip, preset="mov_proresks", model=model).target
    assert made == clip.with_name("clip.mask.mov")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quality": "superb"}, "fast, balanced, best"),
        ({"device": "tpu"}, "auto, cpu, cuda"),
        ({"preset": "mp4"}, "mp4_h264"),
        ({"target": "mask.avi"}, r"\.mp4, \.webm"),
    ],
)
def test_a_wrong_argument_names_the_right_ones(
    clip: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(foremask.FieldInvalid, match=message):
        foremask.mask_video(clip, **arguments)


def test_frames_and_masks_are_read_upright_with_their_times(clip: Path, model: Path) -> None:
    made = foremask.mask_video(clip, model=model).target
    frames = list(foremask.read_frames(clip))
    masks = list(foremask.read_masks(made))
    assert [pts for pts, _ in frames] == [0, 1000, 2000, 3000]
    assert [pts for pts, _ in masks] == [0, 1000, 2000, 3000]
    for (_, rgb), (_, alpha) in zip(frames, masks, strict=True):
        assert rgb.shape == (128, 96, 3)
        assert alpha.shape == (128, 96)
        assert alpha.dtype == np.float32
        red = rgb[..., 0].astype(int) - rgb[..., 1] > 90
        assert alpha[red].mean() > 0.9
        assert alpha[~red].mean() < 0.05


def test_arrays_become_alphas_one_by_one_and_in_order(model: Path) -> None:
    """No file at all: as many as there are, float32 from 0 to 1, of the frames' size."""
    drawn = list(synth.draw(synth.Spec(width=128, height=96, pts=tuple(range(30)))))
    alphas = list(foremask.mask_frames((rgb for rgb, _ in drawn), model=model))
    assert len(alphas) == 30
    for alpha, (_, truth) in zip(alphas, drawn, strict=True):
        assert alpha.shape == (96, 128)
        assert alpha.dtype == np.float32
        assert 0 <= alpha.min() <= alpha.max() <= 1
        assert np.abs(alpha - truth / 255).mean() < 0.03
    assert list(foremask.mask_frames([], model=model)) == []


@pytest.mark.slow
def test_a_stream_that_nobody_reads_on_ends_its_threads(model: Path) -> None:
    """An endless camera, of which three masks are wanted."""
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


def test_a_picture_is_masked_from_an_array_and_from_a_file(tmp_path: Path, model: Path) -> None:
    picture, truth = synth.disc(128, 96, 0.5)
    from_array = foremask.mask_image(picture, model=model)
    assert np.abs(from_array - truth / 255).mean() < 0.03
    cv2.imwrite(str(tmp_path / "picture.png"), picture[:, :, ::-1])
    from_file = foremask.mask_image(tmp_path / "picture.png", model=model)
    assert np.abs(from_file - from_array).mean() < 0.01


class Tensor:
    """A tensor of another library: it has its memory to share, and nothing of an array's."""

    def __init__(self, pixels: np.ndarray, *, on_gpu: bool = False) -> None:
        self.pixels, self.on_gpu = pixels, on_gpu

    def __dlpack__(self, **_: object) -> object:
        if self.on_gpu:
            raise BufferError("it is on cuda:0")
        return self.pixels.__dlpack__()

    def __dlpack_device__(self) -> tuple[Any, int]:
        return (2, 0) if self.on_gpu else self.pixels.__dlpack_device__()


def from_dlpack(array: np.ndarray) -> Tensor:
    """As libraries of tensors have it; this module is the tensor's library here."""
    return Tensor(np.from_dlpack(array))


def test_tensors_come_in_and_go_out_by_dlpack(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With their channels first or last; the alphas are those of the arrays."""
    monkeypatch.setitem(sys.modules, __name__.partition(".")[0], sys.modules[Tensor.__module__])
    frames = [synth.disc(64, 48, moment)[0] for moment in (0.2, 0.4)]
    wanted = list(foremask.mask_frames(frames, quality="fast", model=model))
    first = (Tensor(np.ascontiguousarray(frame.transpose(2, 0, 1))) for frame in frames)
    for made, alpha in zip(
        foremask.mask_frames(first, quality="fast", model=model), wanted, strict=True
    ):
        assert isinstance(made, Tensor)
        assert np.array_equal(made.pixels, alpha)
    alone = foremask.mask_image(Tensor(frames[0]), quality="fast", model=model)
    as_array = foremask.mask_image(frames[0], quality="fast", model=model)
    assert np.array_equal(alone.pixels, as_array)
    with pytest.raises(foremask.FieldInvalid, match=r"0 cannot be read \(it is on cuda:0\).*cpu"):
        foremask.mask_image(Tensor(frames[0], on_gpu=True), model=model)


def test_threads_share_a_masker(model: Path) -> None:
    left, right = (synth.disc(128, 96, moment)[0] for moment in (0.1, 0.9))
    with foremask.Masker(model=model) as masker:
        alone = [masker.mask_image(picture) for picture in (left, right)]
        found: dict[int, list[Any]] = {0: [], 1: []}

        def work(number: int, picture: Any) -> None:  # noqa: ANN401
            found[number] = [masker.mask_image(picture) for _ in range(4)]

        threads = [
            threading.Thread(target=work, args=(number, picture))
            for number, picture in enumerate((left, right))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for number in (0, 1):
        assert len(found[number]) == 4
        for alpha in found[number]:
            np.testing.assert_array_equal(alpha, alone[number])


def test_a_missing_file_is_pythons_own_error(tmp_path: Path) -> None:
    for call in (foremask.mask_video, foremask.probe, foremask.mask_image):
        with pytest.raises(FileNotFoundError):
            call(tmp_path / "nothing.png" if call is foremask.mask_image else "nothing.mp4")


def test_what_is_no_hint_and_a_background_by_name_are_said_at_once(tmp_path: Path) -> None:
    """Without types: a pair of numbers is named, and ``"blur"`` is what it says."""
    source = synth.write(tmp_path / "clip.mp4")
    with pytest.raises(FieldInvalid, match=r"hints\[0\] is a tuple; write foremask\.Point"):
        foremask.mask_video(source, tmp_path / "mask.mp4", hints=[(160, 90)])  # type: ignore[list-item]
    options = CutOutOptions(background="blur:8")  # type: ignore[arg-type]
    assert options.background == Background(BackgroundKind.BLUR, amount=8.0)

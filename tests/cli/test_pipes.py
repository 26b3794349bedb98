import io
import subprocess
import sys
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np
import pytest

from foremask.cli import standard_streams
from foremask.cli.commands import main
from foremask.cli.exits import Exit
from foremask.media.verify import verify
from foremask.options import ResultKind
from tests.support import networks, synth
from tests.support.command_line import Run

STREAMED = {
    "mp4": ("-c", "copy", "-f", "mp4", "-movflags", "frag_keyframe+empty_moov"),
    "mkv": ("-c", "copy", "-f", "matroska"),
    "webm": ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-c:a", "libopus", "-f", "webm"),
    "nut": ("-c", "copy", "-f", "nut"),
}
"""What ffmpeg writes to a pipe."""
RAW = ("-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "gray", "-")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    synth.write(tmp_path / "clip.mp4", synth.Spec(pts=(0, 1000, 2000), sound=(synth.Tone(),)))
    monkeypatch.setenv("FOREMASK_MODEL_FILE", str(networks.redness(tmp_path, bias=-5.0)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


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
    streamed = ffmpeg("-i", "clip.mp4", *STREAMED[container], "-")
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
    assert sorted(each.name for each in here.glob("*mask*")) == ["mask.mkv"]


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
    pipe(monkeypatch, (here / "clip.mp4").read_bytes())
    assert main(["cutout", "-", "-o", "cut.mkv"]) == Exit.OK
    assert verify(here / "clip.mp4", here / "cut.mkv", ResultKind.CUTOUT)


def test_the_mask_of_a_pipe_wants_a_name(
    here: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    pipe(monkeypatch, b"\0\0\0\x18ftypmp42")
    reason = "-o stdin.mask.mp4 makes a file, -o - writes"
    assert reason in run("mask", "-", code=Exit.USAGE).err


def test_a_pipe_without_end_is_stopped_before_the_disk_is_full(
    here: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.setattr(standard_streams, "LEAST_FREE_BYTES", 1 << 60)
    pipe(monkeypatch, bytes(200_000))
    stopped = run("mask", "-", "-o", "m.mp4", code=Exit.OUTPUT_FAILED)
    assert "which is nearly full after 0 MB" in stopped.err
    assert not list(here.glob("*m.mp4*"))

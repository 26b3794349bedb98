"""Streams that are masked as they run: in order, in step, and without anything that piles up."""

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from foremask.cli.commands import main
from foremask.cli.exits import Exit
from foremask.masking.live import (
    LIVE_INPUTS,
    MOST_KEPT,
    MOST_UNREAD,
    SWITCHES_AFTER,
    InputChoice,
    LiveMasker,
    LiveReport,
    NewestFrames,
)
from foremask.media.frames import Frame, frame_of
from foremask.media.writer import LiveWriter
from foremask.types import Alpha, Image
from foremask.vision.resample import as_alpha
from tests.support import networks, synth
from tests.support.networks import Drawn
from tests.support.patience import PATIENCE_S
from tests.support.programs import AT_A_TERMINAL, Run

WIDTH, HEIGHT, FRAMES = 160, 120, 12
IN_STEP = {"fpsprobesize": "0"}  # a reader that would wait for more frames would wait for ever


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    model = networks.redness(tmp_path, bias=-5.0)
    monkeypatch.setenv("FOREMASK_MODEL_FILE", str(model))
    monkeypatch.chdir(tmp_path)
    return model


@pytest.mark.slow
def test_a_disc_in_a_pipe_gives_a_mask_for_each_frame_until_ctrl_c(model: Path) -> None:
    """In step: no frame goes in before the mask of the last one has come out."""
    command = [sys.executable, "-c", AT_A_TERMINAL, "live", "-", "-o", "-"]
    pipe = subprocess.PIPE
    with (
        subprocess.Popen(command, bufsize=0, stdin=pipe, stdout=pipe, stderr=pipe) as ran,  # noqa: S603
        suppress(BrokenPipeError),  # its end is written when nobody reads on
        av.open(ran.stdin, "w", format="nut") as out,
    ):
        stream: Any = out.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "rgb24"
        masks: Iterator[av.VideoFrame] | None = None
        for index in range(FRAMES):
            picture, truth = synth.disc(WIDTH, HEIGHT, index / FRAMES)
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(frame))
            if masks is None:
                answers = av.open(ran.stdout, "r", "nut", container_options=IN_STEP)
                masks = answers.decode(video=0)
            mask = next(masks)
            assert mask.time == index / 25
            white, right = mask.to_ndarray()[:HEIGHT] > 126, truth > 127
            # on a busy machine the network is late, and the mask follows the flow: 0.82
            assert (white & right).sum() / (white | right).sum() > 0.7
        ran.send_signal(signal.SIGINT)
        said = ran.stderr.read().decode() if ran.stderr else ""
    assert ran.returncode == Exit.INTERRUPTED
    assert said.endswith("interrupted\n")
    assert any(f"live: {count} frames" in said for count in (FRAMES - 1, FRAMES))  # the last one
    assert ", 0 dropped" in said  # may be written, and not yet counted


@pytest.mark.linux
@pytest.mark.slow
@pytest.mark.parametrize("begun", [b"", b"nut/multimedia container"])
def test_ctrl_c_ends_the_wait_for_a_camera_that_gives_no_frame(model: Path, begun: bytes) -> None:
    from fcntl import ioctl
    from termios import FIONREAD

    os.mkfifo("camera")
    command = [sys.executable, "-c", AT_A_TERMINAL, "live", "camera"]
    with (
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as ran,  # noqa: S603
        Path("camera").open("wb", buffering=0) as sender,  # which waits until it is read
    ):
        sender.write(begun)
        while any(ioctl(sender, FIONREAD, bytes(4))):  # until it has been read
            time.sleep(0.01)
        ran.send_signal(signal.SIGINT)
        try:
            assert ran.wait(PATIENCE_S) == Exit.INTERRUPTED
        finally:
            ran.kill()


def test_a_pipe_that_cannot_be_read_is_refused_with_what_can(model: Path, run: Run) -> None:
    synth.write(Path("clip.mp4"), synth.Spec(WIDTH, HEIGHT, pts=(0, 1000, 2000)))
    clip = Path("clip.mp4").read_bytes()
    at = clip.index(b"moov") - 4
    late = clip[:at] + b"\0\4\0\0free" + bytes((4 << 16) - 8) + clip[at:]
    for content, said in ((late, "ffmpeg -i clip.mp4 -c copy -f nut - |"), (b"", "has no bytes")):
        pipe = f"pipe of {len(content)}"
        os.mkfifo(pipe)
        sending = threading.Thread(target=Path(pipe).write_bytes, args=[content])
        sending.start()
        assert said in run("live", pipe, code=Exit.CLIP_REFUSED).err
        sending.join()


def test_a_subject_is_shown_over_a_colour(
    model: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    synth.write(Path("clip.mp4"), synth.Spec(WIDTH, HEIGHT, pts=(0,)))
    assert main(["live", "clip.mp4", "--background", "#0000ff"]) == Exit.OK
    answer = capfdbinary.readouterr()
    assert b"live: 1 frames" in answer.err
    Path("shown.nut").write_bytes(answer.out)
    with av.open("shown.nut") as shown:
        (frame,) = shown.decode(video=0)
    picture = frame.to_ndarray(format="rgb24").astype(int)
    assert np.abs(picture[5, 150] - (0, 0, 255)).max() < 32
    assert np.abs(picture[60, 30] - (220, 30, 30)).max() < 32


def test_no_index_is_kept_of_a_stream_that_may_never_end(tmp_path: Path) -> None:
    with (tmp_path / "stream.nut").open("wb") as pipe:
        writer = LiveWriter(pipe)
        for index in range(3):
            writer.write(np.zeros((2, 2), np.uint8), frame_of(np.zeros((2, 2, 3), np.uint8), index))
        written = pipe.tell()
        writer.close()
        assert pipe.tell() == written


def test_whoever_reads_too_slowly_gets_the_newest_frame_and_the_others_are_counted() -> None:
    ended = threading.Event()

    def camera() -> Iterator[Frame]:
        for index in range(1000):
            yield frame_of(np.zeros((2, 2, 3), np.uint8), index)
        ended.set()

    frames = NewestFrames(camera(), in_time=False)
    assert ended.wait(PATIENCE_S)
    newest = [timed[0].index for timed in frames if timed]
    assert newest == list(range(1000 - MOST_UNREAD, 1000))
    assert frames.dropped == 1000 - MOST_UNREAD


def test_a_stream_that_breaks_says_so_after_its_last_frame() -> None:
    def broken() -> Iterator[Frame]:
        yield frame_of(np.zeros((2, 2, 3), np.uint8), 0)
        raise ValueError("unplugged")

    frames = iter(NewestFrames(broken(), in_time=False))
    first = next(filter(None, frames))
    assert first[0].index == 0
    with pytest.raises(ValueError, match="unplugged"):
        list(frames)


NEVER_LATE_S = 1e9


def masked_while_busy(
    shown: int, came_s: float, deadline_s: float = math.inf
) -> tuple[dict[int, Alpha], list[int], LiveMasker]:
    """Mask a disc: the network answers about frame 0, and then when all frames have come.

    Returns the masks, the frames about which the network was asked, and the masker.
    """
    may_answer = threading.Event()

    def patient(image: Image) -> Alpha:
        assert isinstance(image, Frame)
        assert image.index == 0 or may_answer.wait(PATIENCE_S)
        return (image.rgb(WIDTH, HEIGHT)[..., 0] > 190).astype(np.float32)

    network = Drawn(patient)
    masker = LiveMasker(network, deadline_s)
    masks: dict[int, Alpha] = {}

    def camera() -> Iterator[tuple[Frame, float] | None]:
        yield frame_of(DISCS[0][0], 0), came_s
        while not masks:
            yield None
        for index in range(1, shown):
            yield frame_of(DISCS[index][0], index), came_s
        may_answer.set()
        while masker.is_busy:
            yield None

    for (frame, _), mask in masker.masks(camera()):
        masks[frame.index] = mask
    masker.close()
    asked = [image.index for image in network.asked if isinstance(image, Frame)]
    return masks, asked, masker


DISCS = [synth.disc(WIDTH, HEIGHT, index / 80) for index in range(MOST_KEPT + 8)]


def least_overlap(masks: dict[int, Alpha]) -> float:
    pairs = [(mask > 0.5, DISCS[index][1] > 127) for index, mask in masks.items()]
    return float(min((found & right).sum() / (found | right).sum() for found, right in pairs))


def test_frames_wait_for_the_next_mask_of_the_network_and_get_it_and_the_last_one() -> None:
    masks, asked, masker = masked_while_busy(10, NEVER_LATE_S)
    assert [*masks] == [*range(10)]
    assert asked == [0, 1, 9]
    assert masker.dropped == 0
    assert least_overlap(masks) > 0.85


def test_frames_that_have_waited_for_too_long_get_the_last_mask_along_the_flow() -> None:
    masks, asked, masker = masked_while_busy(17, 0.0)
    assert [*masks] == [*range(17)]
    assert asked == [0, 1]
    assert masker.dropped == 0
    assert least_overlap(masks) > 0.6  # unmoved: 0.44 at the end


def test_frames_that_would_be_late_are_dropped_but_for_one_in_the_time_of_a_deadline() -> None:
    """Frame 0 is given, for none was before; all others are late within the next 5 s."""
    long_ago_s = time.monotonic() - 10
    masks, _, masker = masked_while_busy(17, long_ago_s, deadline_s=5)
    assert [*masks] == [0]
    assert masker.dropped == 16
    masks, _, masker = masked_while_busy(17, long_ago_s, deadline_s=0.0)
    assert len(masks) == 17, "a stream that is always late goes on"


def test_what_it_takes_to_give_out_a_frame_counts_before_its_deadline() -> None:
    """Each of 12 frames takes 0.1 s to be written, and all came together 0.6 s before the end."""
    masker = LiveMasker(Drawn(lambda image: as_alpha(image.rgb(64, 64)[..., 0])), deadline_s=0.6)
    given_s = list[float]()

    def camera() -> Iterator[tuple[Frame, float] | None]:
        for index in range(5):  # it learns what writing takes
            yield frame_of(DISCS[index][0], index), NEVER_LATE_S
            while masker.is_busy:
                yield None
        came_s = time.monotonic()
        for index in range(5, 17):
            yield frame_of(DISCS[index][0], index), came_s
        while masker.is_busy:
            yield None

    for (frame, came_s), _ in masker.masks(camera()):
        time.sleep(0.1)
        if 5 <= frame.index < 16:
            given_s.append(time.monotonic() - came_s)
    masker.close()
    assert given_s, "some are in time"
    assert sorted(given_s)[-2] < 0.75, "and one is given that is late"
    assert masker.dropped >= 4


def test_the_network_is_asked_again_before_the_masks_of_its_answer_are_used() -> None:
    """What is done with a mask takes tens of milliseconds, in which the network would be idle."""
    network = Drawn(lambda image: as_alpha(image.rgb(64, 64)[..., 0]))
    masker = LiveMasker(network)

    def camera() -> Iterator[tuple[Frame, float] | None]:
        for index in range(2):
            yield frame_of(DISCS[index][0], index), NEVER_LATE_S
        while masker.is_busy:
            yield None

    masks = masker.masks(camera())
    next(masks)
    until_s = time.monotonic() + PATIENCE_S
    while len(network.asked) < 2 and time.monotonic() < until_s:
        time.sleep(0.01)
    assert len(network.asked) == 2
    assert len(list(masks)) == 1
    masker.close()


def test_an_answer_about_a_frame_that_is_out_already_counts_for_later_ones() -> None:
    """Each frame is late at once; the network answers about it when its mask is out."""
    masker = LiveMasker(Drawn(lambda image: as_alpha(image.rgb(64, 64)[..., 0])), math.inf)

    def camera() -> Iterator[tuple[Frame, float] | None]:
        for index in range(6):
            yield frame_of(DISCS[index][0], index), 0.0
            for _ in range(4):
                time.sleep(0.02)
                yield None

    assert [frame.index for (frame, _), _ in masker.masks(camera())] == [*range(6)]
    masker.close()


def test_a_network_that_stays_slow_gets_a_smaller_input() -> None:
    def slow(image: Image) -> Alpha:
        time.sleep(1.1 * LIVE_INPUTS[0].slow_s)
        return as_alpha(image.rgb(64, 64)[..., 0])

    for any_size in (True, False):
        network = Drawn(slow)
        network.any_size = any_size
        masker = LiveMasker(network)
        for index in range(SWITCHES_AFTER + 1):
            assert list(masker.masks([(frame_of(DISCS[index][0], index), NEVER_LATE_S)]))
        masker.close()
        last = LIVE_INPUTS[1].size if any_size else None
        assert network.sizes == [None] * SWITCHES_AFTER + [last]


def inputs_chosen(whole_s: Iterable[float], slower: float = 1.0) -> list[int]:
    """Which of `LIVE_INPUTS` each answer had; smaller ones take ``slower`` times their share."""
    sizes = [each.size for each in LIVE_INPUTS]
    choice = InputChoice()
    chosen: list[int] = []
    for each_s in whole_s:
        number = sizes.index(choice.size)
        chosen.append(number)
        answer_s = each_s * LIVE_INPUTS[number].share
        if number > 0:
            answer_s *= slower
        choice.learn(answer_s)
    return chosen


@pytest.mark.parametrize(
    ("whole_s", "chosen_last"), [(0.2, 0), (0.23, 0), (0.25, 1), (0.34, 1), (0.36, 2), (0.5, 2)]
)
def test_the_input_changes_after_some_answers_to_the_one_of_the_networks_time(
    whole_s: float, chosen_last: int
) -> None:
    chosen = inputs_chosen([whole_s] * 100)
    assert chosen == [min(number // SWITCHES_AFTER, chosen_last) for number in range(100)]


@pytest.mark.parametrize("slower", [0.85, 0.9, 1.0, 1.1, 1.2])
@pytest.mark.parametrize("whole_s", [0.2, 0.25, 0.29, 0.34, 0.36, 0.4, 0.5])
def test_no_input_comes_again_while_the_network_is_as_quick_as_before(
    whole_s: float, slower: float
) -> None:
    for times_s in ([whole_s] * 100, [0.8 * whole_s, 1.2 * whole_s] * 50):
        chosen = inputs_chosen(times_s, slower)
        assert chosen == sorted(chosen)


def test_a_few_slow_answers_do_not_change_the_input() -> None:
    assert not any(inputs_chosen(([9.0] * (SWITCHES_AFTER - 1) + [0.1]) * 10))


def test_answers_that_ask_for_a_larger_and_a_smaller_input_in_turns_change_nothing() -> None:
    chosen = inputs_chosen([0.3] * SWITCHES_AFTER + [0.1, 0.6] * 20)
    assert chosen[SWITCHES_AFTER:] == [1] * 40


def test_a_network_that_becomes_fast_gets_the_whole_input_again() -> None:
    chosen = inputs_chosen([0.5] * 20 + [0.15] * 20)
    assert chosen[20] == 2
    assert chosen[20 + 2 * SWITCHES_AFTER - 1] == 1
    assert not any(chosen[20 + 2 * SWITCHES_AFTER :])


def test_what_comes_when_the_network_does_not_answer_is_dropped_and_counted() -> None:
    masks, _, masker = masked_while_busy(MOST_KEPT + 8, 0.0)
    assert [*masks] == [*range(MOST_KEPT)]
    assert masker.dropped == 8


def test_a_stream_may_change_its_size() -> None:
    wide = frame_of(DISCS[0][0], 0)
    high = frame_of(np.ascontiguousarray(np.rot90(DISCS[0][0])), 1)
    masker = LiveMasker(Drawn(lambda image: as_alpha(image.rgb(64, 64)[..., 0])), math.inf)
    shapes = [mask.shape for _, mask in masker.masks([(wide, 0.0), (high, 0.0), (wide, 0.0)])]
    masker.close()
    assert shapes == [(120, 160), (160, 120), (120, 160)]


def test_a_report_of_many_dropped_frames_says_what_to_change() -> None:
    assert LiveReport(frames=95, dropped=5, seconds=4.0).advice is None
    advice = LiveReport(frames=48, dropped=252, seconds=10.0).advice
    assert advice is not None
    assert advice.startswith("this machine masks about 4.8 frames a second; ")
    assert "-r 4 -f nut - | foremask live -" in advice

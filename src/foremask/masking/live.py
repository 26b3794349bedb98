"""Masks a live stream: runs the network on some frames, and warps their masks to the others."""

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from foremask.masking.cut_out import FrameCutter, opened_background
from foremask.media.frames import Frame
from foremask.media.reader import VideoReader
from foremask.media.writer import LiveWriter
from foremask.options import NO_MATTE, Background
from foremask.pipeline.stages.edges import sharpened
from foremask.types import Alpha, Image
from foremask.vision.network.compiled_networks import LIVE_PX
from foremask.vision.network.network_protocol import InputSize, Network
from foremask.vision.network.opinions import CLOSER_PX
from foremask.vision.temporal.live_window import LiveWindow, live_mask

MOST_UNREAD: Final = 4
MOST_KEPT: Final = 48  # frames from the last one of known mask on; each takes 1 MB
LATEST_S: Final = 0.3  # so long a frame waits for the network's next mask
# A frame that gets its mask so long after it came is in time. What is left after `LATEST_S` is for
# the flow, for the masks of the frames before it, and for whoever writes them.
DEADLINE_S: Final = 0.45
GIVE_SHARE: Final = 0.2  # of the newest measurement, in the mean time that a frame takes
POLL_S: Final = 0.01
SWITCHES_AFTER: Final = 5  # answers in a row that ask for the same other input
FAST_SHARE: Final = 0.8  # of `LiveInput.slow_s`; if it were 1, inputs would flip


@dataclass(frozen=True, slots=True)
class LiveInput:
    """A size of the network's input.

    ``share`` is its time as a share of that of the network's own input. From ``slow_s`` on, which
    is the time of the network's own input, the next smaller one gives better masks, because its
    answers come sooner: docs/quality.md.
    """

    size: InputSize | None  # None is the network's own
    share: float
    slow_s: float


LIVE_INPUTS: Final = (
    LiveInput(None, 1.0, slow_s=0.24),
    LiveInput((LIVE_PX, LIVE_PX), 0.7, slow_s=0.35),
    LiveInput((CLOSER_PX, CLOSER_PX), 0.53, slow_s=math.inf),
)
"""From large to small; all are compiled ahead."""

type TimedFrame = tuple[Frame, float]
"""A frame, and its arrival time in seconds of `time.monotonic`."""


@dataclass(slots=True)
class LiveReport:
    frames: int = 0
    dropped: int = 0
    seconds: float = 0.0
    lags_ms: Counter[int] = field(default_factory=Counter)  # frames by lag

    def __str__(self) -> str:
        lags = sorted(self.lags_ms.elements()) or [0]
        half, most = (lags[int(share * (len(lags) - 1))] / 1000 for share in (0.5, 0.95))
        return (
            f"{self.frames} frames in {self.seconds:.1f} s"
            f" ({self.frames / (self.seconds or 1):.1f} fps), lag {half:.2f} s"
            f" (p95 {most:.2f} s), {self.dropped} dropped"
        )

    @property
    def advice(self) -> str | None:
        """What to change if over a tenth of the frames were dropped."""
        if self.dropped <= (self.frames + self.dropped) / 10:
            return None
        fps = self.frames / (self.seconds or 1)
        return (
            f"this machine masks about {fps:.1f} frames a second; send it no more, by"
            f" ffmpeg -i CAMERA -r {max(1, int(fps))} -f nut - | foremask live -"
        )


class NewestFrames:
    """Reads frames in a thread, drops old ones, and yields the others with their arrival times.

    At most `MOST_UNREAD` frames are queued. If another frame arrives, the oldest is dropped and
    counted. While the queue is empty, the iterator yields None every `POLL_S`. With ``in_time``,
    frames are read at the pace of their timestamps.
    """

    def __init__(self, frames: Iterable[Frame], *, in_time: bool) -> None:
        self.dropped = 0
        self._frames, self._in_time = frames, in_time
        self._unread: deque[TimedFrame] = deque()
        self._ended: Exception | None = None  # StopIteration at the end of the stream
        self._stop, self._changed = threading.Event(), threading.Condition()
        # The daemon thread is never joined, since it may block on a pipe.
        threading.Thread(target=self._read, name="foremask live", daemon=True).start()

    def close(self) -> None:
        self._stop.set()

    def _read(self) -> None:
        ended: Exception = StopIteration()
        zero_s: float | None = None
        try:
            for frame in self._frames:
                now_s = time.monotonic()
                zero_s = now_s - frame.time_s if zero_s is None else zero_s
                early_s = zero_s + frame.time_s - now_s if self._in_time else 0
                if self._stop.wait(max(0, early_s)):
                    break
                with self._changed:
                    if len(self._unread) == MOST_UNREAD:
                        self._unread.popleft()
                        self.dropped += 1
                    self._unread.append((frame, time.monotonic()))
                    self._changed.notify()
        except Exception as error:  # noqa: BLE001  (raised in `__iter__`)
            ended = error
        with self._changed:
            self._ended = ended
            self._changed.notify()

    def __iter__(self) -> Iterator[TimedFrame | None]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._unread or self._ended, POLL_S)
                newest = self._unread.popleft() if self._unread else None
            if newest is None and isinstance(self._ended, StopIteration):
                return
            if newest is None and self._ended is not None:
                raise self._ended
            yield newest


class InputChoice:
    """Chooses the network's input by the times of its answers.

    The next smaller one of `LIVE_INPUTS` is chosen once `SWITCHES_AFTER` answers in a row took so
    long that the network's own input would take ``slow_s``; the next larger one, once it would
    take less than `FAST_SHARE` of that input's ``slow_s`` as often.
    """

    def __init__(self) -> None:
        self._chosen = 0
        self._wanted = 0
        self._in_a_row = 0  # answers that asked for the wanted input

    @property
    def size(self) -> InputSize | None:
        return LIVE_INPUTS[self._chosen].size

    def learn(self, answer_s: float) -> None:
        """Take the time of an answer about the chosen input."""
        chosen = LIVE_INPUTS[self._chosen]
        whole_s = answer_s / chosen.share
        wanted = self._chosen
        if whole_s > chosen.slow_s:
            wanted += 1
        elif self._chosen and whole_s < FAST_SHARE * LIVE_INPUTS[self._chosen - 1].slow_s:
            wanted -= 1
        if wanted != self._wanted:
            self._wanted = wanted
            self._in_a_row = 0
        self._in_a_row += 1
        if self._in_a_row >= SWITCHES_AFTER:
            self._chosen = wanted


class LiveMasker:
    """Masks frames without look-ahead.

    Whenever the network is free, it runs on the newest frame. Frames before that one wait for its
    mask for up to `LATEST_S`; then optical flow brings it, and the network's mask before, to them.
    A frame that has waited for so long gets only the mask before. A frame that cannot be given out
    within ``deadline_s`` of its coming is dropped, unless none was given out for so long. If the
    network does not answer for `MOST_KEPT` frames, further ones are dropped, too; ``dropped`` has
    the number of both. A slow network gets a smaller input (`LIVE_INPUTS`), if it takes any size.
    """

    def __init__(self, network: Network, deadline_s: float = DEADLINE_S) -> None:
        self.dropped = 0
        self._deadline_s = deadline_s
        self._give_s = 0.0  # mean time until the next frame can be given out
        self._given_at_s = 0.0
        self._network = network
        self._threads = ThreadPoolExecutor(1, "foremask network")
        self._window = LiveWindow()
        self._waiting: deque[tuple[int, TimedFrame]] = deque()
        self._count = 0
        self._answer: Future[Alpha] | None = None
        self._asked = -1  # number of the last frame that the network got
        self._input = InputChoice()

    @property
    def is_busy(self) -> bool:
        return bool(self._waiting)

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    def masks(self, frames: Iterable[TimedFrame | None]) -> Iterator[tuple[TimedFrame, Alpha]]:
        """Yield frames in order, except dropped frames, each with its small upright mask."""
        size: tuple[int, int] | None = None
        for newest in frames:
            if newest is not None:
                frame = newest[0]
                if size not in (None, (frame.width, frame.height)):
                    yield from self._rest()
                    self._window = LiveWindow()
                size = frame.width, frame.height
            number = None
            if newest is not None:
                number = self._arrived(newest)
            asked = self._asked
            alpha = self._new_answer()
            self._ask()  # now: flow and masks take tens of milliseconds
            if alpha is not None:
                yield from self._given(self._window.learn(asked, alpha))
            if newest is not None and number is not None:
                self._window.add(number, newest[0])
            yield from self._late()
        yield from self._rest()

    def _arrived(self, newest: TimedFrame) -> int | None:
        """Let the frame wait, and number it; None if it is dropped."""
        if len(self._window) >= MOST_KEPT:
            self.dropped += 1
            return None
        number = self._count
        self._waiting.append((number, newest))
        self._count += 1
        return number

    def _new_answer(self) -> Alpha | None:
        """The network's mask of the frame `_asked`, once."""
        if self._answer is None or not self._answer.done():
            return None
        alpha = self._answer.result()
        self._answer = None
        return alpha

    def _ask(self) -> None:
        """Run the network on the newest frame, if it is free and does not know this frame."""
        if self._answer is None and self._waiting and self._waiting[-1][0] > self._asked:
            self._asked, (image, _) = self._waiting[-1]
            self._answer = self._threads.submit(self._infer, image)

    def _infer(self, image: Image) -> Alpha:
        size: InputSize | None = None
        if self._network.any_size:
            size = self._input.size
        began_s = time.monotonic()
        alpha = self._network.infer(image, size).alpha
        self._input.learn(time.monotonic() - began_s)
        return live_mask(alpha, image)

    def _late(self) -> Iterator[tuple[TimedFrame, Alpha]]:
        """Yield the frames that have waited for `LATEST_S`, if there is any mask yet."""
        late_s = time.monotonic() - LATEST_S
        late = [number for number, (_, came_s) in self._waiting if came_s < late_s]
        if late and self._window.knows_any:
            yield from self._given(self._window.extrapolated(late[-1]))

    def _rest(self) -> Iterator[tuple[TimedFrame, Alpha]]:
        if self._answer is not None:
            wait([self._answer])
        alpha = self._new_answer()
        if alpha is not None:
            yield from self._given(self._window.learn(self._asked, alpha))
        if self._waiting:
            yield from self._given(self._window.extrapolated(self._waiting[-1][0]))

    def _given(self, masks: Sequence[Alpha]) -> Iterator[tuple[TimedFrame, Alpha]]:
        """Yield the frames that have waited longest, each with its mask, if they are in time."""
        for mask in masks:
            timed = self._waiting.popleft()[1]
            began_s = time.monotonic()
            is_late = began_s + self._give_s > timed[1] + self._deadline_s
            if is_late and began_s < self._given_at_s + self._deadline_s:
                self.dropped += 1
                continue
            yield timed, mask
            self._given_at_s = time.monotonic()
            self._give_s += GIVE_SHARE * (self._given_at_s - began_s - self._give_s)


def _opened(source: Path) -> VideoReader:
    """Open in a thread, so that Ctrl-C works while FFmpeg waits for a camera."""
    opened: Future[VideoReader] = Future()

    def open_source() -> None:
        try:
            opened.set_result(VideoReader(source))
        except Exception as error:  # noqa: BLE001  (raised in the caller)
            opened.set_exception(error)

    threading.Thread(target=open_source, name="foremask open", daemon=True).start()
    return opened.result()


def mask_live(
    source: Path, pipe: BinaryIO, network: Network, behind: Background | None, report: LiveReport
) -> None:
    """Write the masks of a stream, or its subject over a background, until the stream ends.

    A file is read at its own frame rate. Raises ClipRefused, and the errors of `LiveWriter`.
    """
    reader = _opened(source)
    with (
        opened_background(behind, reader.clip.start_s) as drawn,
        closing(LiveWriter(pipe)) as writer,
        closing(LiveMasker(network)) as masker,
        closing(NewestFrames(reader, in_time=source.is_file())) as frames,
    ):
        cutter, began_s = drawn and FrameCutter(NO_MATTE, drawn), time.monotonic()
        for (frame, came_s), alpha in masker.masks(frames):
            coded = sharpened(frame, alpha)
            shown = np.ascontiguousarray(frame.orientation.to_upright(coded))
            if cutter is not None:
                shown = np.asarray(cutter.cut(shown, frame)[0], np.uint8)
            writer.write(shown, frame)
            now_s = time.monotonic()
            report.frames += 1
            report.lags_ms[round(1000 * (now_s - came_s))] += 1
            report.dropped = frames.dropped + masker.dropped
            report.seconds = now_s - began_s

"""Masks a live stream: runs the network on some frames, and warps their masks to the others."""

import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from foremask.masking.cut_out import FrameCutter, opened_background
from foremask.masking.plan import refine_edges
from foremask.media.frames import Frame
from foremask.media.reader import VideoReader
from foremask.media.writer import LiveWriter
from foremask.options import NO_MATTE, Background, Quality
from foremask.types import Alpha, Flow, Image, Luma
from foremask.vision.network.session import Network
from foremask.vision.resample import resized
from foremask.vision.temporal.flow import FlowEstimator, resize_flow, warp
from foremask.vision.temporal.grids import grid_of
from foremask.vision.temporal.tier import TIERS

MOST_UNREAD: Final = 4
MOST_WAITING: Final = 16  # about half a second at 30 fps
POLL_S: Final = 0.01

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


class LiveMasker:
    """Masks frames without look-ahead.

    Whenever the network is free, it runs on the newest frame. Up to `MOST_WAITING` frames, that
    frame included, wait for its mask. Optical flow then warps the mask to the others. Further
    frames are dropped, and counted in ``dropped``.
    """

    def __init__(self, network: Network) -> None:
        self.dropped = 0
        self._network = network
        self._threads = ThreadPoolExecutor(1, "foremask network")
        self._flow = FlowEstimator()
        self._grey: Luma | None = None
        self._mask: Alpha | None = None  # mask of the last yielded frame

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    def masks(self, frames: Iterable[TimedFrame | None]) -> Iterator[tuple[TimedFrame, Alpha]]:
        """Yield frames in order, except dropped frames, each with its small upright mask."""
        answer: Future[Alpha] | None = None
        waiting: list[tuple[TimedFrame, Flow | None]] = []
        for newest in frames:
            answered, ready = (waiting, answer) if answer and answer.done() else ([], None)
            if newest is None:
                waiting, answer = ([], None) if answered else (waiting, answer)
            elif answered or answer is None:
                waiting = [(newest, self._flow_from_last(newest[0]))]
                answer = self._threads.submit(self._infer, newest[0])
            elif len(waiting) < MOST_WAITING:
                waiting.append((newest, self._flow_from_last(newest[0])))
            else:
                self.dropped += 1
            yield from self._moved(answered, ready)
        yield from self._moved(waiting, answer)

    def _infer(self, image: Image) -> Alpha:
        grid = grid_of(image, TIERS[Quality.FAST].mask_area_px)
        return resized(self._network.infer(image).alpha, *grid)

    def _flow_from_last(self, frame: Frame) -> Flow | None:
        luma = np.ascontiguousarray(frame.orientation.to_upright(frame.luma()))
        small = resized(luma, *grid_of(frame, TIERS[Quality.FAST].flow_area_px))
        before, self._grey = self._grey, small.astype(np.uint8)
        return None if before is None else self._flow(self._grey, before)

    def _moved(
        self, waiting: list[tuple[TimedFrame, Flow | None]], answer: Future[Alpha] | None
    ) -> Iterator[tuple[TimedFrame, Alpha]]:
        """Warp the last mask to each frame; blend the network's mask in at the first frame."""
        new = answer.result() if waiting and answer else None
        for frame, flow in waiting:
            if self._mask is not None and flow is not None:
                self._mask = warp(self._mask, resize_flow(flow, *self._mask.shape[::-1]))
            if new is not None:
                old = new if self._mask is None else self._mask
                self._mask = new + (old - new) * np.maximum(_certainty(old) - _certainty(new), 0)
                new = None
            assert self._mask is not None  # noqa: S101  # the very first frame has an answer
            yield frame, self._mask


def _certainty(mask: Alpha) -> Alpha:
    return np.abs(2 * mask - 1)


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
            ((_, coded),) = refine_edges([(frame, alpha)])
            shown = np.ascontiguousarray(frame.orientation.to_upright(coded))
            if cutter is not None:
                shown = np.asarray(cutter.cut(shown, frame)[0], np.uint8)
            writer.write(shown, frame)
            now_s = time.monotonic()
            report.frames += 1
            report.lags_ms[round(1000 * (now_s - came_s))] += 1
            report.dropped = frames.dropped + masker.dropped
            report.seconds = now_s - began_s

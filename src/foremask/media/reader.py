"""Decodes a clip into frames in presentation order, each with its exact pts."""

import heapq
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Final, Self

import av
from av.codec.context import ThreadType

from foremask.errors import ClipRefused, CorruptVideo
from foremask.facts import Clip, Span
from foremask.media import boxes, ebml
from foremask.media.demux import STREAM_REMEDY, Container, open_clip, open_stream
from foremask.media.frames import Frame, Orientation
from foremask.media.presets import HUGE_PIXELS
from foremask.media.probe import clip_of, tagged_end_s
from foremask.options import Excerpt

# Some containers, and people, round times to milliseconds: a frame so near to an excerpt's start or
# end is taken as the frame at it.
_ROUNDING_S: Final = Fraction(6, 10_000)
_SEEK_MARGIN_S: Final = 1  # seek earlier, since an index may have dts, which precede pts
_SEEKABLE: Final = (Container.MP4, Container.MOV, Container.WEBM, Container.MKV)


class VideoReader:
    """Iterates once over the frames of a clip or of its ``excerpt``.

    Times in an excerpt count from its start. After the iteration, ``warnings`` is complete, and
    ``end`` is the last frame's end in seconds. ``unmoved_end`` is the same by the file's own
    timestamps, which may not rise (see `__iter__`); an excerpt has none.
    """

    def __init__(self, path: Path, excerpt: Excerpt | None = None) -> None:
        self._is_stream = is_stream = path.is_fifo() or path.is_char_device()
        if is_stream:
            self._opened = open_stream(path)
        else:
            self._opened = open_clip(path)
        with ExitStack() as refused:
            refused.enter_context(self._opened)
            self._is_cut_off = not is_stream and _is_cut_off(path, self._opened.container)
            self._track = self._opened.track
            self.clip: Clip = clip_of(self._opened)
            refused.pop_all()
        self._span: Span | None = None
        self._nearest = Span(0, None)  # the frames of `_span`, if their times were rounded
        if excerpt is not None:
            self._span = _span_of(excerpt, self.clip)
            self._nearest = _span_of(excerpt, self.clip, _ROUNDING_S)
        self.orientation = Orientation.from_matrix(self.clip.matrix)
        self.time_base = self.clip.tick_s
        self.warnings: list[str] = []
        self.end: Fraction | None = None
        self.unmoved_end: Fraction | None = None
        codec = self._track.codec_context
        if is_stream:
            codec.thread_type = ThreadType.SLICE  # frame threads would delay each frame
        elif self.clip.pixels > HUGE_PIXELS:
            codec.thread_type = ThreadType.SLICE
            codec.thread_count = 1
        else:
            codec.thread_type = ThreadType.AUTO

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.demuxer.close()

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames; raises CorruptVideo if decoding fails, no_frames if there are none.

        A truncated file causes only a warning. A missing pts becomes the previous pts plus one
        nominal frame. A pts that does not rise becomes the previous pts plus one tick, with a
        warning. Frames of another size are scaled to the clip's size.
        """
        span = self._span
        if span is not None:
            self._seek(span.first_pts)
        nominal = 1
        if self.clip.fps:
            nominal = max(1, round(1 / (Fraction(self.clip.fps) * self.time_base)))
        times = _RisingTimes(nominal, self.time_base)
        begins_pts = 0
        index = 0
        damaged = 0
        duration = 0
        try:
            for decoded, declared_pts in self._decoded():
                pts = times.next(declared_pts)
                duration = decoded.duration
                if span is not None:
                    if pts < self._nearest.first_pts:
                        continue
                    if not self._nearest.holds(pts):
                        span = replace(span, end_pts=self._nearer(pts, span.end_pts or 0))
                        break
                    if not index:
                        begins_pts = self._nearer(pts, span.first_pts)
                    pts -= begins_pts
                damaged += decoded.is_corrupt
                if (decoded.width, decoded.height) != (self.clip.width, self.clip.height):
                    decoded = self._rescaled(decoded)
                yield Frame(
                    decoded,
                    index,
                    pts,
                    decoded.duration or None,
                    self.time_base,
                    self.orientation,
                    times.moved,
                )
                index += 1
        finally:  # also runs if the caller stops the iteration
            if damaged:
                self.warnings.append(f"{damaged} damaged frames were repaired by the decoder")
            if times.warning is not None:
                self.warnings.append(times.warning)
        duration = duration or nominal
        if span is not None:
            self._end_excerpt(span, begins_pts, index, times.last, duration)
            return
        if not index:
            raise ClipRefused(
                "The video track has no frame that can be decoded.", reason="no_frames", actual=0
            )
        self._note_missing(index, times.last)
        self.end = self._end(index, times.last, duration)
        self.unmoved_end = self._end(index, times.last - times.moved, duration)

    def _seek(self, first_pts: int) -> None:
        before_pts = first_pts - round(_SEEK_MARGIN_S / self.time_base)
        if self._opened.container in _SEEKABLE and before_pts > (self._track.start_time or 0):
            self._opened.demuxer.seek(before_pts, stream=self._track, backward=True)

    def _nearer(self, pts: int, asked_pts: int) -> int:
        """Return the frame's ``pts`` if the time that was asked for is that time rounded."""
        if (pts - asked_pts) * self.time_base <= _ROUNDING_S:
            return pts
        return asked_pts

    def _end_excerpt(self, span: Span, begins_pts: int, frames: int, last: int, shown: int) -> None:
        begins = begins_pts * self.time_base
        if not frames:
            start_s = float(span.first_pts * self.time_base) - self.clip.start_s
            raise ClipRefused(
                f"No frame is shown from {start_s:g} s on.",
                reason="no_frames",
                param="start_s",
                actual=0,
            )
        end = self.declared_end or (last + shown) * self.time_base
        if span.end_pts is not None:
            end = min(end, span.end_pts * self.time_base)
        self.end = end - begins

    def _end(self, frames: int, last: int, shown: int) -> Fraction:
        declared = self.declared_end
        own = (last + shown) * self.time_base
        if declared is None or declared <= last * self.time_base:
            return own
        if frames < (self.clip.frames or 0):
            return min(declared, own)
        return declared

    @property
    def declared_end(self) -> Fraction | None:
        """The last frame's end in seconds, if the file declares it."""
        track = self._track
        if self.clip.frames is not None and track.duration:
            return ((track.start_time or 0) + track.duration) * self.time_base
        tagged = tagged_end_s(track)
        if tagged is None:
            return None
        return round(tagged / self.time_base) * self.time_base

    def _decoded(self) -> Iterator[tuple[av.VideoFrame, int | None]]:
        done = 0
        waiting: list[int] = []
        # AVI stores no pts, so the n-th decoded frame gets the n-th smallest dts.
        sorts = self._opened.container is Container.AVI
        last: int | None = None
        cut: av.InvalidDataError | None = None
        try:
            for packet in self._opened.demuxer.demux(self._track):
                if cut is not None and packet.size:
                    raise cut
                if sorts and packet.size and packet.dts is not None:
                    heapq.heappush(waiting, packet.dts)
                try:
                    frames = packet.decode()
                except av.InvalidDataError as error:
                    # On one processor, decoders report that a truncated file's last packet is
                    # incomplete; on more, they do not.
                    if not packet.is_corrupt:
                        raise
                    cut = error
                    frames = []
                for decoded in frames:
                    last = heapq.heappop(waiting) if waiting else decoded.pts
                    yield decoded, last
                    done += 1
        except (av.FFmpegError, OSError) as error:
            if self._is_stream and not done:
                details = f"The stream breaks before its first frame: {error.strerror}."
                raise ClipRefused(
                    details, reason="container_unsupported", cli_remedy=STREAM_REMEDY
                ) from error
            time_s = float((last or 0) * self.time_base)
            details = f"The video breaks after {done} frames, at {time_s:.3f} s: {error.strerror}."
            raise CorruptVideo(details, actual=done) from error

    def _rescaled(self, decoded: av.VideoFrame) -> av.VideoFrame:
        remark = "the picture changes size on the way; all frames were scaled to the first size"
        if remark not in self.warnings:
            self.warnings.append(remark)
        scaled = decoded.reformat(self.clip.width, self.clip.height, interpolation="BILINEAR")
        scaled.color_trc = decoded.color_trc
        scaled.color_primaries = decoded.color_primaries
        scaled.duration = decoded.duration
        return scaled

    def _note_missing(self, frames: int, last: int) -> None:
        declared = self.clip.frames
        # Without a DURATION tag, the declared duration may be that of a longer sound track.
        is_videos = not self.clip.audio or "DURATION" in self._track.metadata
        lasts_s: float | None = None
        if is_videos:
            lasts_s = self.clip.duration_s
        if declared is not None and frames < declared:
            self.warnings.append(f"the file declares {declared} frames and holds {frames}")
        elif declared is None and lasts_s and self.clip.fps:
            end_s = float(last * self.time_base) + 1 / self.clip.fps
            missing_s = self.clip.start_s + lasts_s - end_s
            if missing_s > max(0.5, 2 / self.clip.fps):
                self.warnings.append(
                    f"the file declares {lasts_s:.2f} s and ends {missing_s:.2f} s sooner"
                )
        if self._is_cut_off and not self.warnings:
            self.warnings.append("the file was cut off: it ends before its container does")


class _RisingTimes:
    """Gives each frame a pts above that of the frame before it, and counts the moved frames."""

    def __init__(self, nominal: int, time_base: Fraction) -> None:
        self.last = 0
        self.moved = 0  # ticks by which the last frame was moved
        self._nominal = nominal
        self._time_base = time_base
        self._has_begun = False
        self._moved_frames = 0
        self._most_moved = 0
        self._first_moved = ""

    def next(self, declared: int | None) -> int:
        self.moved = 0
        if declared is None:
            pts = 0
            if self._has_begun:
                pts = self.last + self._nominal
        elif self._has_begun and declared <= self.last:
            pts = self.last + 1
            self._note(pts, declared)
        else:
            pts = declared
        self.last = pts
        self._has_begun = True
        return pts

    def _note(self, pts: int, declared: int) -> None:
        self.moved = pts - declared
        self._moved_frames += 1
        self._most_moved = max(self._most_moved, self.moved)
        if not self._first_moved:
            self._first_moved = f"{self._text(declared)} after {self._text(self.last)}"

    @property
    def warning(self) -> str | None:
        if not self._moved_frames:
            return None
        return (
            f"{self._moved_frames} frames have timestamps that do not rise"
            f" (the first: {self._first_moved}); each was moved to just after the frame before it,"
            f" by up to {self._text(self._most_moved)}"
        )

    def _text(self, ticks: int) -> str:
        return f"{float(ticks * self._time_base):.3f} s"


class NamedReader(VideoReader):
    """Puts the file's name before the details of an error, for who reads several files."""

    def __init__(self, path: Path) -> None:
        self._name = path.name
        with self._naming():
            super().__init__(path)

    def __iter__(self) -> Iterator[Frame]:
        with self._naming():
            yield from super().__iter__()

    @contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except ClipRefused as error:
            error.details = f"{self._name}: {error.details}"
            error.args = (error.details,)
            raise


def _span_of(excerpt: Excerpt, clip: Clip, earlier_s: Fraction = Fraction(0)) -> Span:
    time_base = clip.tick_s
    origin = round(Fraction(clip.start_s) / time_base)

    def first_from(moment_s: float) -> int:
        exact_s = Fraction(moment_s).limit_denominator(1_000_000)
        return origin + ceil((exact_s - earlier_s) / time_base)

    first_pts = first_from(excerpt.start_s)
    if excerpt.end_s is None:
        return Span(first_pts, None)
    return Span(first_pts, first_from(excerpt.end_s))


def _is_cut_off(path: Path, container: Container) -> bool:
    """Whether a file is shorter than it declares, which FFmpeg does not report."""
    size = path.stat().st_size
    with path.open("rb") as file:

        def read_at(offset: int, length: int) -> bytes:
            file.seek(offset)
            return file.read(length)

        match container:
            case Container.MP4 | Container.MOV:
                return boxes.declared_size(read_at, size) > size
            case Container.WEBM | Container.MKV:
                return ebml.declared_size(read_at, size) > size
            case Container.GIF:
                return not read_at(max(0, size - 64), 64).rstrip(b"\0").endswith(b";")
            case Container.AVI | Container.OTHER:  # the sizes in AVI are often wrong
                return False

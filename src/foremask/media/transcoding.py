"""Transcodes one sound track; every sample keeps its time."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, Final, cast

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.packet import Packet

from foremask.media.probe import fraction

type AnyPacket = Packet[Any]

_GAP_S: Final = 0.1
_SILENCE_SAMPLES: Final = 4096


class Transcoder:
    """Decodes the packets of ``track``, encodes them for ``out``, and passes the result to ``mux``.

    A gap becomes silence, so that the sound after it keeps its time. A packet that cannot be
    decoded is left out, and ``warn`` gets a message.
    """

    def __init__(
        self,
        track: AudioStream,
        out: AudioStream,
        mux: Callable[[AnyPacket], None],
        warn: Callable[[str], None],
    ) -> None:
        self._codec = track.codec_context.codec.canonical_name
        self._out, self._mux, self._warn = out, mux, warn
        self._next_sample: int | None = None  # counted from the track's time 0

    def write(self, packet: AnyPacket | None) -> None:
        """Transcode a packet; None flushes the encoder."""
        if packet is None:
            self._encode(None)
            return
        try:
            frames = cast("list[AudioFrame]", packet.decode())
        except av.FFmpegError as error:
            self._warn(f"a piece of {self._codec} sound cannot be decoded: {error.strerror}")
            return
        for frame in frames:
            self._place(frame)

    def _place(self, frame: AudioFrame) -> None:
        """Encode a frame, after silence if the source has a gap before it.

        Frames that overlap, because a container's clock is coarse, are encoded end to end.
        """
        at = _first_sample(frame)
        start = (at or 0) if self._next_sample is None else self._next_sample
        if at is not None and at - start > _GAP_S * frame.sample_rate:
            for silence in _silence(frame, start, at - start):
                self._encode(silence)
            start = at
        frame.pts, frame.time_base = start, Fraction(1, frame.sample_rate)
        self._next_sample = start + frame.samples
        self._encode(frame)

    def _encode(self, frame: AudioFrame | None) -> None:
        for encoded in self._out.encode(frame):
            self._mux(encoded)


def _first_sample(frame: AudioFrame) -> int | None:
    base = fraction(frame.time_base) if frame.time_base else None
    if frame.pts is None or base is None:
        return None
    return round(frame.pts * base * frame.sample_rate)


def _silence(like: AudioFrame, start: int, samples: int) -> Iterator[AudioFrame]:
    for at in range(start, start + samples, _SILENCE_SAMPLES):
        count = min(_SILENCE_SAMPLES, start + samples - at)
        frame = av.AudioFrame(like.format.name, like.layout.name, count)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.sample_rate, frame.pts = like.sample_rate, at
        frame.time_base = Fraction(1, like.sample_rate)
        yield frame

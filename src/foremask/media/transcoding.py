"""Transcodes one sound track; samples keep their times to within 0.1 s."""

from collections.abc import Callable
from typing import Any, Final, cast

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.packet import Packet

type AnyPacket = Packet[Any]

# A gap of more than 0.1 s becomes silence; an overlap of more than 0.1 s is cut.
_BY_TIMESTAMPS: Final = {"async": "1", "min_hard_comp": "0.1"}


class Transcoder:
    """Decodes packets of sound, encodes them for ``out``, and passes the new packets to ``mux``.

    A packet that cannot be decoded is left out, and ``warn`` gets a message.
    """

    def __init__(
        self,
        out: AudioStream,
        mux: Callable[[AnyPacket], None],
        warn: Callable[[str], None],
    ) -> None:
        self._out, self._mux, self._warn = out, mux, warn
        codec = out.codec_context
        self._resampler = av.AudioResampler(
            codec.format, codec.layout, codec.sample_rate, options=_BY_TIMESTAMPS
        )

    def write(self, packet: AnyPacket | None) -> None:
        frames: list[AudioFrame | None] = [None]
        if packet is not None:
            try:
                frames = cast("list[AudioFrame | None]", packet.decode())
            except av.FFmpegError as error:
                codec = packet.stream.codec_context.codec.canonical_name
                self._warn(f"a piece of {codec} sound cannot be decoded: {error.strerror}")
                return
        for frame in frames:
            for resampled in self._resampler.resample(frame):
                self._encode(resampled)
        if packet is None:
            self._encode(None)

    def _encode(self, frame: AudioFrame | None) -> None:
        for encoded in self._out.encode(frame):
            self._mux(encoded)

"""Copies the sound of a clip into its mask, or transcodes it where the container requires that."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any, Final

import av
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.stream import Discard

from foremask.facts import SoundTrack
from foremask.media.demux import open_clip
from foremask.media.probe import MAX_TEXT, fraction, language_of
from foremask.media.sound_codecs import (
    BIBLIOGRAPHIC,
    COPIES,
    HOLD_NO_EMPTY_TRACK,
    encoder_for,
    layout_of,
)
from foremask.media.transcoding import AnyPacket, Transcoder
from foremask.media.write_errors import writing
from foremask.options import Excerpt

_MATROSKA_TICK_S: Final = Fraction(1, 1000)

type Write = Callable[[AnyPacket | None], None]


class Sound:
    """Muxes the sound tracks of ``source`` into ``output``, in step with the video.

    With an ``excerpt``, only the packets that begin in it are muxed, timed from its start.
    ``origin_s`` is the time of the source's first video frame.
    """

    def __init__(
        self,
        source: Path,
        output: OutputContainer,
        muxer: str,
        excerpt: Excerpt | None = None,
        origin_s: float = 0.0,
    ) -> None:
        self._excerpt = excerpt
        self._origin_s = origin_s
        self._opened: InputContainer = open_clip(source).demuxer
        self._output = output
        self._muxer = muxer
        self._writers: dict[int, Write] = {}
        self._written: dict[
            int, int
        ] = {}  # from the index in `tracks` to the index of the output stream
        self._muxed: set[int] = set()
        self.tracks: list[SoundTrack] = []
        self.warnings: list[str] = []
        try:
            for track in self._opened.streams.audio:
                self._add(track)
        except BaseException:
            self._opened.close()
            raise
        chosen = [self._opened.streams[index] for index in self._writers]
        for stream in self._opened.streams.get():
            if stream.index not in self._writers:
                stream.discard = Discard.all
        packets = self._opened.demux(chosen) if chosen else iter(())
        self._packets: Iterator[AnyPacket] = self._wanted(packets)
        self._next: AnyPacket | None = None

    def close(self) -> None:
        self._opened.close()

    def mux_until(self, time_s: Fraction | None) -> None:
        """Mux the packets up to ``time_s``; None muxes all that are left."""
        while True:
            packet = self._next or self._read()
            if packet is None:
                return
            self._next = None
            stamp = packet.dts if packet.dts is not None else packet.pts
            if stamp is not None and time_s is not None:
                base = packet.time_base
                if stamp * Fraction(base.numerator, base.denominator) > time_s:
                    self._next = packet
                    return
            self._writers[packet.stream.index](packet)  # a flush packet has only its stream

    def finish(self) -> None:
        """Mux the rest, flush the encoders, and report empty tracks that the container drops."""
        self.mux_until(None)
        for write in self._writers.values():
            write(None)
        if self._muxer not in HOLD_NO_EMPTY_TRACK:
            return
        for place, index in self._written.items():
            if index not in self._muxed:
                why = f"it is empty, and {self._muxer} holds no empty track"
                track = self.tracks[place]
                self.tracks[place] = replace(track, action="dropped", written_as=None, why=why)
                self._warn(
                    f"sound track {place + 1} of {len(self.tracks)} ({track.codec})"
                    f" was left out: {why}; mkv and webm keep it"
                )

    def _read(self) -> AnyPacket | None:
        try:
            return next(self._packets, None)
        except (av.FFmpegError, OSError) as error:
            self._packets = iter(())
            self._warn(f"the sound breaks off: {error.strerror}")
            return None

    def _wanted(self, packets: Iterator[AnyPacket]) -> Iterator[AnyPacket]:
        if self._excerpt is None:
            yield from packets
            return
        start_s = self._origin_s + self._excerpt.start_s
        end_s = None if self._excerpt.end_s is None else self._origin_s + self._excerpt.end_s
        for packet in packets:
            if packet.pts is not None:
                base = Fraction(packet.time_base.numerator, packet.time_base.denominator)
                begins_s = float(packet.pts * base)
                if begins_s < start_s or (end_s is not None and begins_s >= end_s):
                    continue
                moved = round(Fraction(start_s).limit_denominator(1_000_000) / base)
                packet.pts -= moved
                packet.dts = None if packet.dts is None else packet.dts - moved
            yield packet

    def _warn(self, remark: str) -> None:
        if remark not in self.warnings:
            self.warnings.append(remark)

    def _add(self, track: AudioStream) -> None:
        codec = track.codec_context
        language = language_of(track)
        if not codec or not codec.sample_rate:
            self.tracks.append(
                SoundTrack("unknown", None, "dropped", "FFmpeg knows no decoder for it", language)
            )
            return
        name = codec.codec.canonical_name
        if name in COPIES[self._muxer]:
            out = self._output.add_stream_from_template(track)
            self._writers[track.index] = self._copier(out)
            self.tracks.append(SoundTrack(name, name, "kept", "copied packet by packet", language))
        else:
            out = self._encoder(track)
            self._writers[track.index] = Transcoder(track, out, self._mux, self._warn).write
            written = out.codec_context.codec.canonical_name
            why = f"{self._muxer} cannot carry {name}"
            self.tracks.append(SoundTrack(name, written, "transcoded", why, language))
        self._written[len(self.tracks) - 1] = out.index
        for key in ("language", "title", "handler_name"):
            if key in track.metadata:
                out.metadata[key] = track.metadata[key][:MAX_TEXT]
        if self._muxer == "mov" and language:
            out.metadata["language"] = BIBLIOGRAPHIC.get(language, language)
        out.disposition = track.disposition

    def _encoder(self, track: AudioStream) -> AudioStream:
        codec = track.codec_context
        name, rate_hz = encoder_for(self._muxer, codec.codec.canonical_name, codec.sample_rate)
        out: Any = self._output.add_stream(name, rate=rate_hz)
        out.codec_context.layout = layout_of(track)
        out.codec_context.time_base = Fraction(1, rate_hz)
        if name in ("aac", "libopus"):
            out.codec_context.bit_rate = 96_000 * max(1, out.codec_context.channels)
        return out  # type: ignore[no-any-return]

    def _mux(self, packet: AnyPacket) -> None:
        try:
            index = packet.stream.index
            with writing():
                self._output.mux(packet)
            self._muxed.add(index)
        except av.FFmpegError as error:
            self._warn(f"a piece of sound was left out: {error.strerror}")

    def _copier(self, out: AudioStream) -> Write:
        def write(packet: AnyPacket | None) -> None:
            if packet is None or not packet.size or packet.dts is packet.pts is None:
                return
            if packet.is_corrupt:  # the file ends within it, and players stop at such packets
                self._warn("a piece of sound was left out: it is cut off")
                return
            packet.stream = out
            self._lengthen(packet)
            self._mux(packet)

        return write

    def _lengthen(self, packet: AnyPacket) -> None:
        """Make a packet at least 1 ms long, Matroska's unit of time.

        FFmpeg would give a last packet of 0 ms the length of a full one, and the sound would end
        20 ms late.
        """
        base = fraction(packet.time_base)
        if self._muxer in ("webm", "matroska") and packet.duration and base:
            packet.duration = max(packet.duration, ceil(_MATROSKA_TICK_S / base))

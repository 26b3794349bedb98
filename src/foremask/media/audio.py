"""Carries the sound of a clip into its mask: packet by packet where the container can, else transcoded."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any, Final, cast

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Discard

from foremask.facts import SoundTrack
from foremask.media.demux import open_clip
from foremask.media.probe import fraction
from foremask.media.write_errors import writing

_MP4_COPIES: Final = {"aac", "mp3", "mp2", "ac3", "eac3", "alac", "opus", "flac"}
_MOV_COPIES: Final = {"aac", "mp3", "mp2", "ac3", "eac3", "alac"} | {
    f"pcm_{kind}"
    for kind in [
        "u8",
        "s8",
        "s16le",
        "s16be",
        "s24le",
        "s24be",
        "s32le",
        "s32be",
        "f32le",
        "f32be",
        "f64le",
        "f64be",
        "alaw",
        "mulaw",
    ]
}
_MKV_COPIES: Final = {"aac", "mp3", "mp2", "ac3", "eac3", "alac", "opus", "vorbis", "flac"} | {
    f"pcm_{kind}"
    for kind in ["u8", "s16le", "s16be", "s24le", "s24be", "s32le", "s32be", "f32le", "f64le"]
}
COPIES: Final = {
    "mp4": _MP4_COPIES,
    "mov": _MOV_COPIES,
    "webm": {"opus", "vorbis"},
    "matroska": _MKV_COPIES,
}
"""What each muxer takes as it is."""

TRANSCODES_TO: Final = {"mp4": "aac", "mov": "aac", "webm": "libopus", "matroska": "flac"}
HOLD_NO_EMPTY_TRACK: Final = {"mp4", "mov"}
"""Muxers of FFmpeg that leave out a track without a packet."""
_GAP_S: Final = 0.1
_SILENCE_SAMPLES: Final = 4096
_LOSSLESS_IN_MOV: Final = {"flac": "alac"}

BIBLIOGRAPHIC: Final = dict(
    pair.split("=")
    for pair in [
        "deu=ger",
        "nld=dut",
        "fra=fre",
        "zho=chi",
        "ces=cze",
        "ell=gre",
        "ron=rum",
        "slk=slo",
        "isl=ice",
        "sqi=alb",
        "hye=arm",
        "eus=baq",
        "mya=bur",
        "kat=geo",
        "mkd=mac",
        "msa=may",
        "fas=per",
        "bod=tib",
        "cym=wel",
        "mri=mao",
    ]
)
"""ISO 639-2: the terminological code of a language, and the bibliographic one that QuickTime uses."""

_LAYOUTS: Final = {
    1: "mono",
    2: "stereo",
    3: "2.1",
    4: "quad",
    5: "5.0",
    6: "5.1",
    7: "6.1",
    8: "7.1",
}
_AAC_RATES_HZ: Final = (
    96000,
    88200,
    64000,
    48000,
    44100,
    32000,
    24000,
    22050,
    16000,
    12000,
    11025,
    8000,
)


_MATROSKA_TICK_S: Final = Fraction(1, 1000)

type AnyPacket = Packet[Any]
Write = Callable[[AnyPacket | None], None]


class Sound:
    """The sound tracks of a source, muxed into an output step by step with the picture."""

    def __init__(self, source: Path, output: OutputContainer, muxer: str) -> None:
        self._opened: InputContainer = open_clip(source).demuxer
        self._output = output
        self._muxer = muxer
        self._writers: dict[int, Write] = {}
        self._written: dict[int, int] = {}  # place in `tracks`, index in the output
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
        self._packets: Iterator[AnyPacket] = self._opened.demux(chosen) if chosen else iter(())
        self._next: AnyPacket | None = None

    def close(self) -> None:
        """Close the source; what was muxed stays."""
        self._opened.close()

    def mux_until(self, time_s: Fraction | None) -> None:
        """Mux what sounds before ``time_s``; None is all the rest."""
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
            self._writers[packet.stream.index](packet)  # of a flush packet, only that is set

    def finish(self) -> None:
        """Mux all the rest, empty the encoders, and say which tracks the container leaves out for being empty."""
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
                    f"sound track {place + 1} of {len(self.tracks)} ({track.codec}) was left out: {why};"
                    " mkv and webm keep it"
                )

    def _read(self) -> AnyPacket | None:
        try:
            return next(self._packets, None)
        except (av.FFmpegError, OSError) as error:
            self._packets = iter(())
            self._warn(f"the sound breaks off: {error.strerror}")
            return None

    def _warn(self, remark: str) -> None:
        if remark not in self.warnings:
            self.warnings.append(remark)

    def _add(self, track: AudioStream) -> None:
        codec = track.codec_context
        language = track.language if track.language != "und" else None
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
            self._writers[track.index] = self._transcoder(track, out)
            written = out.codec_context.codec.canonical_name
            why = f"{self._muxer} cannot carry {name}"
            self.tracks.append(SoundTrack(name, written, "transcoded", why, language))
        self._written[len(self.tracks) - 1] = out.index
        for key in ("language", "title", "handler_name"):
            if key in track.metadata:
                out.metadata[key] = track.metadata[key]
        if self._muxer == "mov" and language:
            out.metadata["language"] = BIBLIOGRAPHIC.get(language, language)
        out.disposition = track.disposition

    def _encoder(self, track: AudioStream) -> AudioStream:
        codec = track.codec_context
        name = TRANSCODES_TO[self._muxer]
        if self._muxer == "mov":
            name = _LOSSLESS_IN_MOV.get(codec.codec.canonical_name, name)
        rate_hz = codec.sample_rate
        if name == "libopus":
            rate_hz = 48000
        elif name == "aac":
            rate_hz = next((rate for rate in _AAC_RATES_HZ if rate <= rate_hz), _AAC_RATES_HZ[-1])
        out: Any = self._output.add_stream(name, rate=rate_hz)
        out.codec_context.layout = _layout(track)
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
            if packet.is_corrupt:  # the file was cut off within it, and players would stumble
                self._warn("a piece of sound was left out: it is cut off")
                return
            packet.stream = out
            self._lengthen(packet)
            self._mux(packet)

        return write

    def _lengthen(self, packet: AnyPacket) -> None:
        """Matroska counts milliseconds, and takes a packet of none for a whole one: the sound would end 20 ms late."""
        base = fraction(packet.time_base)
        if self._muxer in ("webm", "matroska") and packet.duration and base:
            packet.duration = max(packet.duration, ceil(_MATROSKA_TICK_S / base))

    def _transcoder(self, track: AudioStream, out: AudioStream) -> Write:
        heard: int | None = None  # the sample that comes next, since the track's zero

        def encode(frame: AudioFrame | None) -> None:
            for encoded in out.encode(frame):
                self._mux(encoded)

        def write(packet: AnyPacket | None) -> None:
            nonlocal heard
            if packet is None:
                encode(None)
                return
            try:
                frames = cast("list[AudioFrame]", packet.decode())
            except av.FFmpegError as error:
                codec = track.codec_context.codec.canonical_name
                self._warn(f"a piece of {codec} sound cannot be decoded: {error.strerror}")
                return
            for frame in frames:
                at = _first_sample(frame)
                if heard is None:
                    heard = at or 0
                if at is not None and at - heard > _GAP_S * frame.sample_rate:
                    for silence in _silence(frame, heard, at - heard):
                        encode(silence)
                    heard = at
                # Containers that count coarsely let neighbours overlap: an encoder takes them end
                # to end.
                frame.pts, frame.time_base = heard, Fraction(1, frame.sample_rate)
                heard += frame.samples
                encode(frame)

        return write


def _first_sample(frame: AudioFrame) -> int | None:
    base = fraction(frame.time_base) if frame.time_base else None
    if frame.pts is None or base is None:
        return None
    return round(frame.pts * base * frame.sample_rate)


def _silence(like: AudioFrame, start: int, samples: int) -> Iterator[AudioFrame]:
    """Frames of nothing, in the manner of another frame."""
    for at in range(start, start + samples, _SILENCE_SAMPLES):
        count = min(_SILENCE_SAMPLES, start + samples - at)
        frame = av.AudioFrame(like.format.name, like.layout.name, count)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.sample_rate, frame.pts = like.sample_rate, at
        frame.time_base = Fraction(1, like.sample_rate)
        yield frame


def _layout(track: AudioStream) -> str:
    """A layout that encoders take: containers like AVI know the number of channels only."""
    codec = track.codec_context
    if codec.channels > 8:
        return "stereo"
    if codec.layout.name in _LAYOUTS.values():
        return codec.layout.name
    return _LAYOUTS.get(codec.channels, "stereo")

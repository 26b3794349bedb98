"""Copies audio tracks into a mask file, and transcodes codecs that its container cannot hold."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from math import ceil, inf
from pathlib import Path
from typing import Final, cast

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.stream import Discard

from foremask.facts import SoundTrack
from foremask.media.demux import open_clip
from foremask.media.packets import AnyPacket, writing
from foremask.media.probe import MAX_TEXT, fraction, language_of
from foremask.options import Excerpt

_MP4_COPIES: Final = {"aac", "mp3", "mp2", "ac3", "eac3", "alac", "opus", "flac"}
_MOV_PCM: Final = "u8 s8 s16le s16be s24le s24be s32le s32be f32le f32be f64le f64be alaw mulaw"
_MOV_COPIES: Final = {"aac", "mp3", "mp2", "ac3", "eac3", "alac"} | {
    f"pcm_{kind}" for kind in _MOV_PCM.split()
}
_MKV_PCM: Final = "u8 s16le s16be s24le s24be s32le s32be f32le f64le"
_MKV_COPIES: Final = {"aac", "mp3", "mp2", "ac3", "eac3", "alac", "opus", "vorbis", "flac"} | {
    f"pcm_{kind}" for kind in _MKV_PCM.split()
}
COPIES: Final = {
    "mp4": _MP4_COPIES,
    "mov": _MOV_COPIES,
    "webm": {"opus", "vorbis"},
    "matroska": _MKV_COPIES,
}
TRANSCODES_TO: Final = {"mp4": "aac", "mov": "aac", "webm": "libopus", "matroska": "flac"}
HOLD_NO_EMPTY_TRACK: Final = {"mp4", "mov"}
_LOSSLESS_IN_MOV: Final = {"flac": "alac"}

_TERMINOLOGICAL: Final = (
    "deu=ger nld=dut fra=fre zho=chi ces=cze ell=gre ron=rum slk=slo isl=ice sqi=alb "
    "hye=arm eus=baq mya=bur kat=geo mkd=mac msa=may fas=per bod=tib cym=wel mri=mao"
)
BIBLIOGRAPHIC: Final = dict(pair.split("=") for pair in _TERMINOLOGICAL.split())
"""Maps terminological ISO 639-2 language codes to bibliographic codes, which QuickTime uses."""

_LAYOUTS: Final = ("mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1")
_OPUS_HZ: Final = 48000  # libopus resamples every other rate anyway.
_BIT_RATE_OF_CHANNEL: Final = 96_000  # Bits per second at which AAC and Opus sound as their source.
# The rates of MPEG-4 AAC from 8 to 96 kHz, the highest first.
_AAC_RATES_HZ: Final = (
    *(96000, 88200, 64000, 48000, 44100, 32000),
    *(24000, 22050, 16000, 12000, 11025, 8000),
)
_SILENT_BYTES: Final = {"pcm_u8": 0x80, "pcm_alaw": 0xD5, "pcm_mulaw": 0xFF}
"""The byte of silence; of every other PCM it is 0."""
_JITTER_S: Final = 0.002  # Matroska rounds timestamps to a millisecond.


def encoder_for(muxer: str, codec: str, rate_hz: int) -> tuple[str, int]:
    name = TRANSCODES_TO[muxer]
    if muxer == "mov":
        name = _LOSSLESS_IN_MOV.get(codec, name)
    if name == "libopus":
        return name, _OPUS_HZ
    if name == "aac":
        return name, next((rate for rate in _AAC_RATES_HZ if rate <= rate_hz), _AAC_RATES_HZ[-1])
    return name, rate_hz


def layout_of(track: AudioStream) -> av.AudioLayout:
    """Return a layout in `_LAYOUTS`: the track's, else one with as many channels, else stereo."""
    layout = track.codec_context.layout
    if layout.name in _LAYOUTS:
        return layout
    if 1 <= layout.nb_channels <= len(_LAYOUTS):
        return av.AudioLayout(_LAYOUTS[layout.nb_channels - 1])
    return av.AudioLayout("stereo")


# The resampler fills gaps of more than 0.1 s with silence.
_BY_TIMESTAMPS: Final = {"async": "1", "min_hard_comp": "0.1"}


class _Transcoder:
    """Transcodes audio packets to the codec of the stream ``out``, and passes them to ``mux``.

    A packet that cannot be decoded is left out, and ``warn`` gets a message.
    """

    def __init__(
        self, out: AudioStream, mux: Callable[[AnyPacket], None], warn: Callable[[str], None]
    ) -> None:
        self._out = out
        self._mux = mux
        self._warn = warn
        codec = out.codec_context
        self._resampler = av.AudioResampler(
            codec.format, codec.layout, codec.sample_rate, options=_BY_TIMESTAMPS
        )
        self._end_s: float | None = None  # end of the last decoded frame

    def write(self, packet: AnyPacket | None) -> None:
        if packet is None:
            self._resample(None)
            self._encode(None)
            return
        try:
            frames = cast("list[AudioFrame]", packet.decode())
        except av.FFmpegError as error:
            codec = packet.stream.codec_context.codec.canonical_name
            self._warn(f"a piece of {codec} sound cannot be decoded: {error.strerror}")
            return
        for frame in frames:
            base = fraction(frame.time_base)
            if frame.time is not None and base:
                for silent in self._placed(frame, frame.time, base):
                    self._resample(silent)
            self._resample(frame)

    def _placed(self, frame: AudioFrame, time_s: float, base: Fraction) -> Iterator[AudioFrame]:
        """Set the frame's time, and yield a silent sample for each second of a gap before it.

        Without these samples, the resampler would fill the whole gap in memory. A frame that
        overlaps the previous frame, as in some AVI, is moved to the previous frame's end.
        """
        end_s = time_s
        if self._end_s is not None:
            end_s = self._end_s
        for second in range(ceil(end_s) + 1, int(time_s)):
            silent = av.AudioFrame(frame.format.name, frame.layout.name, 1)
            silent_byte = b"\x80" if frame.format.bits == 8 else b"\0"
            for plane in silent.planes:
                plane.update(silent_byte * plane.buffer_size)
            silent.sample_rate = frame.sample_rate
            silent.time_base = base
            silent.pts = round(second / base)
            yield silent
        begin_s = max(end_s, time_s)
        frame.pts = round(Fraction(begin_s) / base)
        self._end_s = begin_s + frame.samples / frame.sample_rate

    def _resample(self, frame: AudioFrame | None) -> None:
        for resampled in self._resampler.resample(frame):
            self._encode(resampled)

    def _encode(self, frame: AudioFrame | None) -> None:
        for encoded in self._out.encode(frame):
            self._mux(encoded)


class _Copier:
    """Passes audio packets to ``mux`` for the stream ``out``, as they are but for two cases.

    A packet whose timestamp does not rise, which no muxer takes, is moved to the end of the packet
    before it. With ``fills_gaps``, silence is written where PCM has a gap: a mov has no timestamps
    of PCM, only a number of samples.
    """

    def __init__(
        self,
        out: AudioStream,
        mux: Callable[[AnyPacket], None],
        warn: Callable[[str], None],
        *,
        fills_gaps: bool,
        least_s: Fraction = Fraction(0),
    ) -> None:
        self._out = out
        self._mux = mux
        self._warn = warn
        self._fills_gaps = fills_gaps
        self._least_s = least_s  # shortest duration of a packet
        self._last_pts: int | None = None
        self._end_s = Fraction(0)  # end of the last packet

    def write(self, packet: AnyPacket | None) -> None:
        if packet is None or not packet.size or packet.dts is packet.pts is None:
            return
        if packet.is_corrupt:  # players stop at a packet that the end of the file truncates
            self._warn("a piece of sound was left out: it is cut off")
            return
        base = fraction(packet.time_base)
        if base and packet.pts is not None:
            self._place(packet, packet.pts, base)
        packet.stream = self._out
        self._mux(packet)

    def _place(self, packet: AnyPacket, pts: int, base: Fraction) -> None:
        if self._last_pts is not None and pts <= self._last_pts:
            pts = max(self._last_pts + 1, round(self._end_s / base))
            packet.pts = pts
            packet.dts = pts
            self._warn(
                "sound has timestamps that do not rise: it was moved to after what precedes it"
            )
        if packet.duration:
            packet.duration = max(packet.duration, ceil(self._least_s / base))
        begin_s = pts * base
        duration_s = (packet.duration or 0) * base
        if self._fills_gaps:
            duration_s = self._pcm_s(packet.size)
            if self._last_pts is not None:
                begin_s = self._fill(begin_s)
        self._last_pts = pts
        self._end_s = begin_s + duration_s

    def _fill(self, begin_s: Fraction) -> Fraction:
        """Write silence up to ``begin_s``, and return where the next sample is in the file."""
        if begin_s - self._end_s <= _JITTER_S:
            return self._end_s
        rate_hz = self._out.codec_context.sample_rate
        missing = round((begin_s - self._end_s) * rate_hz)
        at = round(self._end_s * rate_hz)
        codec = self._out.codec_context.codec.canonical_name
        silent_byte = bytes([_SILENT_BYTES.get(codec, 0)])
        for start in range(0, missing, rate_hz):  # a second at once
            samples = min(rate_hz, missing - start)
            silence = av.Packet(silent_byte * (samples * self._sample_bytes))
            silence.pts = at + start
            silence.dts = at + start
            silence.duration = samples
            silence.time_base = Fraction(1, rate_hz)
            silence.stream = self._out
            self._mux(silence)
        return self._end_s + Fraction(missing, rate_hz)

    def _pcm_s(self, size_bytes: int) -> Fraction:
        rate_hz = self._out.codec_context.sample_rate
        return Fraction(size_bytes, self._sample_bytes * rate_hz)

    @property
    def _sample_bytes(self) -> int:
        """Bytes of a sample of all channels."""
        codec = self._out.codec_context
        bits = re.search(r"\d+", codec.codec.canonical_name)
        if bits is None:  # A-law and mu-law
            return codec.channels
        return int(bits[0]) // 8 * codec.channels


type Write = Callable[[AnyPacket | None], None]


class Sound:
    """Muxes the audio tracks of ``source`` into ``output``.

    With an ``excerpt``, packets that begin outside it are dropped, and times count from its start.
    ``excerpt.start_s`` counts from ``origin_s``, the timestamp of the first video frame.
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
        self._track_of_stream: dict[int, int] = {}
        self._muxed: set[int] = set()
        self.tracks: list[SoundTrack] = []
        self.warnings: list[str] = []
        try:
            for track in self._opened.streams.audio:
                self._add(track)
        except BaseException:
            self._opened.close()
            raise
        for stream in self._opened.streams.get():
            if stream.index not in self._writers:
                stream.discard = Discard.all
        chosen = [self._opened.streams[index] for index in self._writers]
        packets: Iterator[AnyPacket] = iter(())
        if chosen:  # without a stream, `demux` gives the packets of all
            packets = self._opened.demux(chosen)
        self._packets = self._wanted(packets)
        self._next: AnyPacket | None = None

    def close(self) -> None:
        self._opened.close()

    def mux_until(self, time_s: Fraction | None) -> None:
        """Mux the packets up to ``time_s``, or all remaining packets if it is None."""
        while packet := self._next or self._read():
            stamp = packet.dts
            if stamp is None:
                stamp = packet.pts
            base = fraction(packet.time_base)
            if stamp is not None and time_s is not None and base and stamp * base > time_s:
                self._next = packet
                return
            self._next = None
            self._writers[packet.stream.index](packet)

    def finish(self) -> None:
        self.mux_until(None)
        for write in self._writers.values():
            write(None)
        if self._muxer not in HOLD_NO_EMPTY_TRACK:
            return
        why = f"it is empty, and {self._muxer} holds no empty track"
        for stream, number in self._track_of_stream.items():
            if stream in self._muxed:
                continue
            track = self.tracks[number]
            self.tracks[number] = replace(track, action="dropped", written_as=None, why=why)
            self._warn(
                f"sound track {number + 1} of {len(self.tracks)} ({track.codec})"
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
        end_s = inf
        if self._excerpt.end_s is not None:
            end_s = self._origin_s + self._excerpt.end_s
        for packet in packets:
            base = fraction(packet.time_base)
            if packet.pts is not None and base:
                begins_s = float(packet.pts * base)
                if not start_s <= begins_s < end_s:
                    continue
                # Cut the error of floating point off, as `reader._span_of` does.
                moved = round(Fraction(start_s).limit_denominator(1_000_000) / base)
                packet.pts -= moved
                if packet.dts is not None:
                    packet.dts -= moved
            yield packet

    def _warn(self, remark: str) -> None:
        if remark not in self.warnings:
            self.warnings.append(remark)

    def _add(self, track: AudioStream) -> None:
        codec = track.codec_context
        language = language_of(track)
        if not codec or not codec.sample_rate:
            why = "FFmpeg knows no decoder for it"
            self.tracks.append(SoundTrack("unknown", None, "dropped", why, language))
            return
        name = codec.codec.canonical_name
        if name in COPIES[self._muxer]:
            out = self._output.add_stream_from_template(track)
            self._writers[track.index] = self._copier(out, name).write
            self.tracks.append(SoundTrack(name, name, "kept", "copied packet by packet", language))
        else:
            out = self._encoder(track)
            self._writers[track.index] = _Transcoder(out, self._mux, self._warn).write
            written = out.codec_context.codec.canonical_name
            why = f"{self._muxer} cannot carry {name}"
            self.tracks.append(SoundTrack(name, written, "transcoded", why, language))
        self._track_of_stream[out.index] = len(self.tracks) - 1
        for key in ("language", "title", "handler_name"):
            if key in track.metadata:
                out.metadata[key] = track.metadata[key][:MAX_TEXT]
        if self._muxer == "mov" and language:
            out.metadata["language"] = BIBLIOGRAPHIC.get(language, language)
        out.disposition = track.disposition

    def _copier(self, out: AudioStream, codec: str) -> _Copier:
        fills_gaps = self._muxer == "mov" and codec.startswith("pcm_")
        least_s = Fraction(0)
        if self._muxer in ("webm", "matroska"):
            # Matroska rounds to 1 ms. FFmpeg would write 20 ms for a last packet of 0 ms.
            least_s = Fraction(1, 1000)
        return _Copier(out, self._mux, self._warn, fills_gaps=fills_gaps, least_s=least_s)

    def _encoder(self, track: AudioStream) -> AudioStream:
        codec = track.codec_context
        name, rate_hz = encoder_for(self._muxer, codec.codec.canonical_name, codec.sample_rate)
        layout = layout_of(track)
        bit_rate = 0  # alac and flac have no loss
        if name in ("aac", "libopus"):
            bit_rate = _BIT_RATE_OF_CHANNEL * layout.nb_channels
        out = self._output.add_stream(name, rate_hz, layout=layout, bit_rate=bit_rate)
        return cast("AudioStream", out)

    def _mux(self, packet: AnyPacket) -> None:
        index = packet.stream.index
        try:
            with writing():
                self._output.mux(packet)
            self._muxed.add(index)
        except av.FFmpegError as error:
            self._warn(f"a piece of sound was left out: {error.strerror}")

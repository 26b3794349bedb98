"""Muxes video packets, with exact durations, and the source's audio into a file."""

import contextlib
import hashlib
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Self

import av
from av.video.stream import VideoStream

from foremask.errors import CorruptVideo, Internal
from foremask.facts import Clip, SoundTrack, Written
from foremask.media import ebml
from foremask.media.audio import Sound
from foremask.media.frames import Orientation
from foremask.media.packets import AnyPacket, writing
from foremask.media.presets import Recipe, check_late
from foremask.options import Excerpt


class MaskFile:
    """An output file for packets in presentation order.

    Leaving the ``with`` block before `finish` deletes the file. A gif stores no rotation, so the
    caller must apply ``turn`` to each picture before encoding. ``size`` and ``aspect`` are those
    after ``turn``. A ``part`` is the result of one segment, without audio and display matrix.
    """

    def __init__(
        self,
        target: Path,
        recipe: Recipe,
        clip: Clip,
        source: Path | None,
        *,
        part: bool,
        excerpt: Excerpt | None = None,
    ) -> None:
        self._target = target
        self.recipe = recipe
        self.clip = clip
        self.time_base = recipe.time_base or clip.tick_s
        self.size = clip.width, clip.height
        self.aspect = clip.pixel_aspect
        self.turn = Orientation()
        if recipe.is_gif:
            self.turn = Orientation.from_matrix(clip.matrix)
            if self.turn.transposed:
                self.size = clip.height, clip.width
                self.aspect = 1 / self.aspect
        self._is_part = part
        muxer = recipe.muxer
        options = dict(recipe.muxer_options)
        if part:
            muxer = _part_muxer(recipe)
            options = {}
        if muxer in ("mp4", "mov"):
            options["movie_timescale"] = str(movie_timescale(self.time_base))
        self.output = av.open(f"file:{target}", "w", format=muxer, container_options=options)
        self._source = source
        if part or recipe.is_gif:
            self._source = None
        self._sound: Sound | None = None
        self._excerpt = excerpt
        self._held: AnyPacket | None = None
        self._first_pts: int | None = None
        self._frames = 0
        self._is_finished = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._is_finished:
            self._close_sound()
            with contextlib.suppress(av.FFmpegError, OSError):  # the file is deleted anyway
                self.output.close()
            self._target.unlink(missing_ok=True)

    def start(self, stream: VideoStream) -> None:
        stream.time_base = self.time_base
        stream.metadata.update(self.recipe.metadata)
        if self.recipe.tag and not self._is_part:
            stream.codec_context.codec_tag = self.recipe.tag
        if not self._is_part and not self.recipe.is_gif:
            stream.set_display_matrix(self.clip.matrix)
        if self._source is not None:
            muxer = self.recipe.muxer
            start_s = self.clip.start_s
            self._sound = Sound(self._source, self.output, muxer, self._excerpt, start_s)

    def take(self, parts: Iterable[Path]) -> None:
        """Copy the packets of finished parts; this replaces calls of `start` and `put`."""
        stream: VideoStream | None = None
        for part in parts:
            with av.open(f"file:{part}", "r", format=_part_muxer(self.recipe)) as opened:
                track = opened.streams.video[0]
                if stream is None:
                    stream = self.output.add_stream_from_template(track, opaque=True)
                    stream.codec_context.sample_aspect_ratio = self.aspect
                    self.start(stream)
                for packet in opened.demux(track):
                    if packet.pts is not None and packet.size:
                        base = Fraction(packet.time_base.numerator, packet.time_base.denominator)
                        packet.pts = packet.dts = round(packet.pts * base / self.time_base)
                        packet.time_base = self.time_base
                        packet.stream = stream
                        self.put(packet)

    def put(self, packet: AnyPacket) -> None:
        """Queue a packet, and write the previous packet, whose duration is now known."""
        if self._held is not None:
            self._held.duration = _pts(packet) - _pts(self._held)
            self._mux(self._held)
        self._held = packet

    def _mux(self, packet: AnyPacket) -> None:
        if self._first_pts is None:
            self._first_pts = packet.pts
        if self._sound is not None:
            self._sound.mux_until(_pts(packet) * self.time_base)
        self._frames += 1
        try:
            with writing():
                self.output.mux(packet)
        except (av.FFmpegError, OSError) as error:
            raise Internal(f"The mask cannot be written: {error.strerror}.") from error

    def finish(self, end: Fraction | None) -> Written:
        """Write the last packet and the rest of the audio, and close the file.

        ``end`` is the last frame's end in seconds. If it is None, the last frame has the
        nominal duration.
        """
        if self._held is None:
            raise Internal("no mask was written")
        last = _pts(self._held)
        if end is None:
            end = last * self.time_base + 1 / Fraction(self.clip.fps or 25)
        end_pts = max(last + 1, round(end / self.time_base))
        drift_s = float(end_pts * self.time_base - end)
        if self.recipe.is_gif:
            check_late(self.clip, self._frames, drift_s, is_end=True)
        self._held.duration = end_pts - last
        self._mux(self._held)
        if self._sound is not None:
            self._sound.finish()
        try:
            with writing():
                self.output.close()
        except av.InvalidDataError as error:  # the audio track's header was copied from the source
            details = "The sound's own header is broken, and the file cannot be finished with it."
            raise CorruptVideo(details) from error
        self._close_sound()
        if self.recipe.encoder.name == "libvpx-vp9" and self.aspect != 1 and not self._is_part:
            ebml.set_aspect(self._target, self.aspect)  # other codecs store the aspect
        self._is_finished = True
        with self._target.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Written(
            frames_out=self._frames,
            duration_s=float((end_pts - (self._first_pts or 0)) * self.time_base),
            duration_drift_ms=round(1000 * drift_s, 3),
            audio=self._audio(),
            sound_warnings=self._sound_warnings(),
            sha256=digest,
            bytes=self._target.stat().st_size,
        )

    def _close_sound(self) -> None:
        if self._sound is not None:
            self._sound.close()

    def _sound_warnings(self) -> tuple[str, ...]:
        if self._sound is None:
            return ()
        return tuple(self._sound.warnings)

    def _audio(self) -> tuple[SoundTrack, ...]:
        if self._sound is not None:
            return tuple(self._sound.tracks)
        if self._is_part:
            return ()
        if self.recipe.is_gif:
            return left_out(self.clip, "gif has no sound")
        return left_out(self.clip, "it was asked for without")


def left_out(clip: Clip, why: str) -> tuple[SoundTrack, ...]:
    return tuple(SoundTrack(each.codec, None, "dropped", why, each.language) for each in clip.audio)


def _pts(packet: AnyPacket) -> int:
    return packet.pts or 0


def movie_timescale(time_base: Fraction) -> int:
    """Return a timescale in which edit lists store times of ``time_base`` exactly."""
    scale = time_base.denominator
    while scale < 10_000:
        scale *= 2
    return scale


def _part_muxer(recipe: Recipe) -> str:
    """Return NUT, which supports every time base, but neither ProRes nor the alpha of VP9."""
    if recipe.encoder.name == "prores_ks":
        return "mov"
    if recipe.metadata.get("alpha_mode"):
        return "matroska"
    return "nut"

"""Muxes the packets of a mask, with exact durations, and the sound of its source into one file."""

import contextlib
import hashlib
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
from av.video.stream import VideoStream

from foremask.errors import CorruptVideo, Internal
from foremask.facts import Clip, SoundTrack, Written
from foremask.media import ebml
from foremask.media.audio import Sound
from foremask.media.orientation import Orientation
from foremask.media.presets import Recipe, check_late
from foremask.media.transcoding import AnyPacket
from foremask.media.write_errors import writing
from foremask.options import Excerpt


class MaskFile:
    """An output file, which takes packets in presentation order.

    ``size``, ``aspect`` and ``matrix`` are those of the written picture; ``turn`` bakes in a
    rotation that the container cannot hold. A ``part`` keeps the source's coded orientation and
    times, and has no sound or display matrix. The sound of an ``excerpt`` is timed from zero.
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
        self.time_base = Fraction(*clip.time_base)
        if recipe.time_base is not None:
            self.time_base = recipe.time_base
        self.size = clip.width, clip.height
        self.aspect = Fraction(*clip.sample_aspect_ratio)
        self.turn = Orientation()
        self.matrix = clip.matrix
        if recipe.is_gif:
            self.turn, self.matrix = Orientation.from_matrix(clip.matrix), None
            if self.turn.transposed:
                self.size, self.aspect = self.size[::-1], 1 / self.aspect
        self.is_part = part
        muxer = part_muxer(self.recipe) if part else self.recipe.muxer
        plain = muxer in ("nut", "matroska") and part
        options = {} if plain else muxer_options(self.recipe, self.time_base)
        self.output = av.open(f"file:{target}", "w", format=muxer, container_options=options)
        self._source = None if part or recipe.is_gif else source
        self._silenced = clip.audio if self._source is None and not part else ()
        self._sound: Sound | None = None
        self._excerpt = excerpt
        self._held: AnyPacket | None = None
        self._first_pts: int | None = None
        self._frames = 0
        self.is_finished = False

    def start(self, stream: VideoStream) -> None:
        """Set the container fields of the video stream, and add the sound streams."""
        stream.time_base = self.time_base
        if self.matrix and not self.is_part:
            stream.set_display_matrix(self.matrix)
        if self._source is not None:
            self._sound = Sound(
                self._source, self.output, self.recipe.muxer, self._excerpt, self.clip.start_s
            )

    def take(self, parts: Iterable[Path]) -> None:
        """Copy the packets of finished parts, in order; call it instead of `start` and `put`."""
        stream: VideoStream | None = None
        for part in parts:
            with av.open(f"file:{part}", "r", format=part_muxer(self.recipe)) as opened:
                track = opened.streams.video[0]
                if stream is None:
                    stream = self._copy_of(track)
                    self.start(stream)
                for packet in opened.demux(track):
                    if packet.pts is not None and packet.size:
                        base = Fraction(packet.time_base.numerator, packet.time_base.denominator)
                        packet.pts = packet.dts = round(packet.pts * base / self.time_base)
                        packet.time_base, packet.stream = self.time_base, stream
                        self.put(packet)

    def _copy_of(self, track: VideoStream) -> VideoStream:
        copy = self.output.add_stream_from_template(track, opaque=True)
        copy.codec_context.sample_aspect_ratio = self.aspect
        if self.recipe.tag:
            copy.codec_context.codec_tag = self.recipe.tag
        copy.metadata.update(self.recipe.metadata)
        return copy

    def put(self, packet: AnyPacket) -> None:
        """Queue a packet; it is written when the next packet's pts tells its duration."""
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
        """Write the last packet and the rest of the sound, and close the file.

        ``end`` is when the last frame ends, in seconds; None makes it one nominal frame long.
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
        except av.InvalidDataError as error:  # from the sound's header, copied from the source
            raise CorruptVideo(
                "The sound's own header is broken, and the file cannot be finished with it."
            ) from error
        self._close_sound()
        if self.recipe.encoder.name == "libvpx-vp9" and self.aspect != 1 and not self.is_part:
            ebml.set_aspect(self._target, self.aspect)  # other codecs hold it in their bit stream
        self.is_finished = True
        with self._target.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Written(
            frames_out=self._frames,
            duration_s=float((end_pts - (self._first_pts or 0)) * self.time_base),
            duration_drift_ms=round(1000 * drift_s, 3),
            audio=self._audio(),
            sound_warnings=tuple(self._sound.warnings) if self._sound else (),
            sha256=digest,
            bytes=self._target.stat().st_size,
        )

    def abandon(self) -> None:
        """Close and delete the unfinished file."""
        self._close_sound()
        with contextlib.suppress(av.FFmpegError, OSError):  # it is thrown away anyway
            self.output.close()
        self._target.unlink(missing_ok=True)

    def _close_sound(self) -> None:
        if self._sound is not None:
            self._sound.close()

    def _audio(self) -> tuple[SoundTrack, ...]:
        if self._sound is not None:
            return tuple(self._sound.tracks)
        why = "gif has no sound" if self.recipe.is_gif else "it was asked for without"
        return tuple(
            SoundTrack(track.codec, None, "dropped", why, track.language)
            for track in self._silenced
        )


def _pts(packet: AnyPacket) -> int:
    return packet.pts or 0


def muxer_options(recipe: Recipe, time_base: Fraction) -> dict[str, str]:
    """The muxer's options; the movie timescale of an mp4 must be as fine as the track's."""
    options = dict(recipe.muxer_options)
    if recipe.muxer in ("mp4", "mov"):
        options["movie_timescale"] = str(movie_timescale(time_base))
    return options


def movie_timescale(time_base: Fraction) -> int:
    """A movie timescale in which edit lists can state times of ``time_base`` exactly."""
    scale = time_base.denominator
    while scale < 10_000:
        scale *= 2
    return scale


def part_muxer(recipe: Recipe) -> str:
    """The muxer of a part: NUT, which keeps any time base exactly, for most codecs.

    NUT holds neither ProRes (mov does) nor the alpha of VP9. That alpha goes into Matroska, whose
    times in whole milliseconds are those of the finished file anyway.
    """
    if recipe.encoder.name == "prores_ks":
        return "mov"
    return "matroska" if recipe.metadata.get("alpha_mode") else "nut"

"""The sound codecs that each container can hold, and the encoder for other codecs."""

from typing import Final

import av
from av.audio.stream import AudioStream

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
"""A language's bibliographic ISO 639-2 code, which QuickTime uses, by terminological code."""

_LAYOUTS: Final = ("mono", "stereo", "2.1", "quad", "5.0", "5.1", "6.1", "7.1")
_AAC_RATES_HZ: Final = (
    *(96000, 88200, 64000, 48000, 44100, 32000),
    *(24000, 22050, 16000, 12000, 11025, 8000),
)


def encoder_for(muxer: str, codec: str, rate_hz: int) -> tuple[str, int]:
    name = TRANSCODES_TO[muxer]
    if muxer == "mov":
        name = _LOSSLESS_IN_MOV.get(codec, name)
    if name == "libopus":
        return name, 48000
    if name == "aac":
        return name, next((rate for rate in _AAC_RATES_HZ if rate <= rate_hz), _AAC_RATES_HZ[-1])
    return name, rate_hz


def layout_of(track: AudioStream) -> av.AudioLayout:
    """The layout to encode. AVI declares only a number of channels; over 8 become stereo."""
    layout = track.codec_context.layout
    if layout.name in _LAYOUTS:
        return layout
    known = layout.nb_channels in range(1, len(_LAYOUTS) + 1)
    return av.AudioLayout(_LAYOUTS[layout.nb_channels - 1] if known else "stereo")

"""The errors of the library, and the base of all that foremask refuses.

The service and the command line have errors of their own under the same base.
`service/error_table.py` has what each means to API callers, `cli/remedies.py` to users of a shell.
"""

from typing import ClassVar

_BY_REASON: dict[str, type["ForemaskError"]] = {}


class ForemaskError(Exception):
    """Anything that foremask refuses or fails at.

    ``details`` is a sentence with the numbers, ``reason`` one stable word for programs. ``param``
    names what is at fault, where it has a name; ``limit`` and ``actual`` are the two numbers that
    clash. A subclass that sets ``reason`` is registered (`by_reason`); a second one with the same
    reason is a TypeError.
    """

    reason: ClassVar[str] = "internal"

    def __init_subclass__(cls) -> None:
        if "reason" in vars(cls):
            known = _BY_REASON.setdefault(cls.reason, cls)
            if known is not cls:
                raise TypeError(
                    f"{cls.__name__} and {known.__name__} have one reason: {cls.reason}"
                )

    def __init__(
        self,
        details: str,
        *,
        param: str | None = None,
        limit: float | None = None,
        actual: float | None = None,
    ) -> None:
        super().__init__(details)
        self.details = details
        self.param = param
        self.limit = limit
        self.actual = actual


def by_reason(reason: str) -> type[ForemaskError] | None:
    """The class with this reason, among those whose modules are loaded."""
    return _BY_REASON.get(reason)


def all_reasons() -> dict[str, type[ForemaskError]]:
    """Every class that has a reason, by it, among those whose modules are loaded."""
    return dict(_BY_REASON)


class FieldInvalid(ForemaskError):
    """Another field has a value that it cannot have."""

    reason = "field_invalid"


class ClipRefused(ForemaskError):
    """The clip is not one that can be masked."""


class BackgroundInvalid(ForemaskError):
    """What was to be put behind the subject is no picture and no video that is taken."""

    reason = "background_invalid"

    @classmethod
    def of(cls, error: ForemaskError) -> "BackgroundInvalid":
        """What would have been said of the clip, said of the background."""
        return cls(
            f"The background cannot be used: {error.details}"
            " Send jpg, png, webp, gif, mp4, mov, webm or avi.",
            param="background_url",
            limit=error.limit,
            actual=error.actual,
        )


class NotAVideo(ClipRefused):
    """A page or other text instead of a video."""

    reason = "not_a_video"


class FileTooLarge(ClipRefused):
    """More bytes than the limit, declared or counted."""

    reason = "file_too_large"


class ResolutionTooLarge(ClipRefused):
    """A side is longer than the limit."""

    reason = "resolution_too_large"


class PresetUnsuitable(ClipRefused):
    """The preset cannot carry this clip; ``details`` names those that can."""

    reason = "preset_cannot"


class DurationTooLong(ClipRefused):
    """The clip is longer than the limit."""

    reason = "duration_too_long"


class TooManyFrames(ClipRefused):
    """The clip has more frames than the limit."""

    reason = "too_many_frames"


class EmptyFile(ClipRefused):
    """The file has no bytes."""

    reason = "empty_file"


class NoFrames(ClipRefused):
    """The video track has no frame."""

    reason = "no_frames"


class ContainerUnsupported(ClipRefused):
    """The container, told by content, is none that is read."""

    reason = "container_unsupported"


class CodecUnsupported(ClipRefused):
    """The video codec is none that is read."""

    reason = "codec_unsupported"


class NoVideoStream(ClipRefused):
    """Only sound, or cover art."""

    reason = "no_video_stream"


class CorruptVideo(ClipRefused):
    """The file cannot be read, from the start or from a named frame on."""

    reason = "corrupt"


class EncryptedVideo(ClipRefused):
    """The video is protected by DRM."""

    reason = "encrypted"


class Failed(ForemaskError):
    """Our fault, not the caller's."""


class Internal(Failed):
    """Anything unforeseen."""

    reason = "internal"


class ModelUnavailable(ForemaskError):
    """The weights cannot be had; ``details`` has the remedy."""

    reason = "model_unavailable"


class DeviceUnavailable(ForemaskError):
    """The network was to run on a device that is not here; ``details`` names those that are."""

    reason = "device_unavailable"


class OutputFailed(ForemaskError):
    """The mask cannot be written: a full disk, a closed directory, a file that is there already."""

    reason = "output_failed"


class OutputExists(OutputFailed):
    """There is a file already, and it was not asked to be replaced."""


class SettingsInvalid(ForemaskError):
    """A setting is unknown, or has a value that it cannot have."""

    reason = "settings_invalid"


class PromiseBroken(ForemaskError):
    """A mask does not keep a promise to its source; ``param`` names the promise."""

    reason = "promise_broken"

"""What a user of the command line can do about each error, in one sentence."""

from collections.abc import Mapping
from typing import Final

from foremask import errors
from foremask.cli.exits import ExtraMissing, ServerUnreachable, Usage, note
from foremask.errors import ForemaskError
from foremask.service import service_errors
from foremask.service.error_table import X264_OPTIONS

CLI_REMEDIES: Final[Mapping[type[ForemaskError], str]] = {
    Usage: "`foremask COMMAND --help` has the usage.",
    ExtraMissing: "Install it: pip install 'foremask[server]'",
    ServerUnreachable: "Check FOREMASK_SERVER or --server, and whether the service runs there.",
    errors.FieldInvalid: "`foremask COMMAND --help` has the usage.",
    errors.BackgroundInvalid: "Name a picture or a video that can be opened elsewhere, too.",
    errors.NotAVideo: "Name the video file itself, not a page that shows it.",
    errors.FileTooLarge: "Download the clip and name the file: files have no limit.",
    errors.ResolutionTooLarge: "Scale it down: ffmpeg -i clip.mp4 -vf scale=3840:-2 small.mp4",
    errors.PresetUnsuitable: "Choose another with --preset.",
    errors.DurationTooLong: "Cut it: ffmpeg -i clip.mp4 -t 60 -c copy short.mp4",
    errors.TooManyFrames: "Lower the frame rate: ffmpeg -i clip.mp4 -r 60 new.mp4",
    errors.EmptyFile: "Check the export or the download that made the file.",
    errors.NoFrames: "Check the export that made the file: its video track is empty.",
    errors.ContainerUnsupported: "Change the container: ffmpeg -i clip.mkv -c copy clip.mp4",
    errors.CodecUnsupported: f"Encode it anew: ffmpeg -i clip.mov {X264_OPTIONS} clip.mp4",
    errors.NoVideoStream: "Name a file that has a video track.",
    errors.CorruptVideo: "Many are mended by: ffmpeg -i clip.mp4 -c copy new.mp4",
    errors.EncryptedVideo: "Use a copy without DRM.",
    errors.ModelUnavailable: "docs/models.md has the ways to get the weights.",
    errors.DeviceUnavailable: "`foremask doctor` lists the devices.",
    errors.OutputExists: "Choose another OUTPUT; --force replaces the file.",
    errors.OutputFailed: "Choose another OUTPUT, or make room for it.",
    errors.SettingsInvalid: "docs/settings.md lists all settings.",
    errors.PromiseBroken: "Make the mask anew; report it if foremask made this one.",
    errors.Internal: "--debug shows where; please report it.",
    service_errors.UrlRefused: "Check the URL, or download the clip and name the file.",
    service_errors.BadRequest: "`foremask COMMAND --help` has the usage.",
    service_errors.Denied: "`foremask token list` shows the tokens.",
    service_errors.Busy: "Wait, and run it again.",
    service_errors.Ended: "Submit the clip again.",
    errors.Failed: "`foremask doctor` shows what is wrong.",
}
"""By class; an error without a row of its own has that of its nearest base."""


def remedy_for(error: ForemaskError) -> str:
    """The remedy of an error; empty for a class that has none."""
    rows = (CLI_REMEDIES.get(kind) for kind in type(error).__mro__)
    return next((row for row in rows if row), "")


def show_error(error: ForemaskError, *, of: str | None = None) -> None:
    """One line on standard error: what happened, what to do about it, and the reason.

    ``of`` names the clip, where there are several.
    """
    named = f"{of}: " if of else ""
    details = error.details if error.details.endswith((".", "!", "?")) else f"{error.details}."
    note(f"error: {named}{details} {remedy_for(error)} [{error.reason}]")

"""The exit codes (docs/cli.md), and printing to standard output and standard error."""

import json
import re
import sys
from collections.abc import Iterable
from enum import IntEnum
from importlib.metadata import requires
from importlib.util import find_spec

import msgspec

from foremask import errors
from foremask.errors import ForemaskError


class Exit(IntEnum):
    """The exit codes; a script may rely on them."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    CLIP_REFUSED = 3
    URL_REFUSED = 4
    MODEL_UNAVAILABLE = 5
    OUTPUT_FAILED = 6
    PROMISE_BROKEN = 7
    INTERRUPTED = 130
    TERMINATED = 143


_BY_KIND: tuple[tuple[type[ForemaskError], Exit], ...] = (
    (errors.BadRequest, Exit.USAGE),
    (errors.FieldInvalid, Exit.USAGE),
    (errors.SettingsInvalid, Exit.USAGE),
    (errors.ClipRefused, Exit.CLIP_REFUSED),
    (errors.BackgroundInvalid, Exit.CLIP_REFUSED),
    (errors.UrlRefused, Exit.URL_REFUSED),
    (errors.ModelUnavailable, Exit.MODEL_UNAVAILABLE),
    (errors.DeviceUnavailable, Exit.MODEL_UNAVAILABLE),
    (errors.OutputFailed, Exit.OUTPUT_FAILED),
    (errors.PromiseBroken, Exit.PROMISE_BROKEN),
)


class Usage(errors.BadRequest):
    """The command line asks for something impossible; the message says what is possible."""

    reason = "usage"
    cli_remedy = ""


class Misused(Usage):
    """The command line cannot be parsed."""

    cli_remedy = errors.BadRequest.cli_remedy


class ExtraMissing(errors.BadRequest):
    """The command needs the packages of an extra, which are not installed."""

    reason = "extra_missing"

    def __init__(self, details: str, extra: str = "server") -> None:
        super().__init__(details)
        self.cli_remedy = f"Install it: pip install 'foremask[{extra}]'"  # type: ignore[misc]


def missing_package() -> str | None:
    """The first package of ``foremask[server]`` that is not installed; None where all are."""
    for line in requires("foremask") or ():  # as "litestar<3,>=2.25; extra == 'server'"
        requirement, _, condition = line.partition(";")
        name = re.split(r"[^\w-]", requirement)[0]
        if "server" in condition and find_spec(name.replace("-", "_")) is None:
            return name
    return None


class ServerUnreachable(errors.Failed):
    """The named server does not answer, or is no foremask."""

    reason = "server_unreachable"
    cli_remedy = "Check FOREMASK_SERVER or --server, and whether the service runs there."


def exit_code(error: ForemaskError) -> Exit:
    """The exit code for an error, by its ``reason``, since a server may have sent it."""
    kind = errors.BY_REASON.get(error.reason, ForemaskError)
    return next((code for known, code in _BY_KIND if issubclass(kind, known)), Exit.INTERNAL)


def print_json(value: object, indent: int | None = 2) -> None:
    """Print the answer of ``--json`` on standard output; without ``indent``, on one line."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    # JSON has these characters only inside strings, where they may be escaped.
    text = _NOT_FOR_TERMINALS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    print(text, flush=True)  # noqa: T201


def say(*lines: str) -> None:
    """Print an answer on standard output and flush it, since `serve` runs for months."""
    print(*map(printable, lines), sep="\n", flush=True)  # noqa: T201


def answer(facts: object, lines: Iterable[str], *, as_json: bool) -> None:
    """Print the facts as JSON, or the lines for people."""
    if as_json:
        print_json(msgspec.to_builtins(facts))
    elif shown := list(lines):
        say(*shown)


def note(*lines: str) -> None:
    """Print a note on standard error."""
    print(*map(printable, lines), sep="\n", file=sys.stderr)  # noqa: T201


def warn(line: str) -> None:
    """Print a warning on standard error."""
    note(f"warning: {line}")


def printable(text: str) -> str:
    """Escape terminal control characters, which file names and servers' answers may contain."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


_NOT_FOR_TERMINALS = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def show_error(error: ForemaskError, command: str = "COMMAND", *, of: str | None = None) -> None:
    """Print one line on standard error: what happened, what to do about it, and the reason.

    ``command`` is the command that was run; ``of`` names the clip, if there are several.
    """
    named = f"{of}: " if of else ""
    details = error.details if error.details.endswith((".", "!", "?")) else f"{error.details}."
    remedy = error.cli_remedy.replace("COMMAND", command)
    note(" ".join(filter(None, (f"error: {named}{details}", remedy, f"[{error.reason}]"))))

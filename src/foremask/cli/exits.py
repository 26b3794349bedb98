"""The exit codes (docs/cli.md), and printing to standard output and standard error."""

import json
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from importlib.util import find_spec
from typing import Final

import msgspec

from foremask import errors
from foremask.errors import ForemaskError


class Exit(IntEnum):
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


_OF_KINDS: Final[dict[Exit, tuple[type[ForemaskError], ...]]] = {
    Exit.USAGE: (errors.BadRequest, errors.SettingsInvalid),
    Exit.CLIP_REFUSED: (errors.ClipRefused, errors.BackgroundInvalid),
    Exit.URL_REFUSED: (errors.UrlRefused,),
    Exit.MODEL_UNAVAILABLE: (errors.ModelUnavailable, errors.DeviceUnavailable),
    Exit.OUTPUT_FAILED: (errors.OutputFailed,),
    Exit.PROMISE_BROKEN: (errors.PromiseBroken,),
}


class Usage(errors.BadRequest):
    usual_reason = "usage"
    usual_cli_remedy = ""


def extra_missing(details: str, extra: str = "server") -> errors.BadRequest:
    remedy = f"Install it: pip install 'foremask[{extra}]'"
    return errors.BadRequest(details, reason="extra_missing", cli_remedy=remedy)


def has_server_extra() -> bool:
    return find_spec("psycopg") is not None  # a package of the server extra


class ServerUnreachable(errors.Failed):
    usual_reason = "server_unreachable"
    usual_cli_remedy = "Check FOREMASK_SERVER or --server, and whether the service runs there."


errors.REASONS.update(
    usage=errors.Reason("usage", Usage, 422),
    extra_missing=errors.Reason("extra_missing", errors.BadRequest, 422),
    server_unreachable=errors.Reason("server_unreachable", ServerUnreachable, 500),
)


def exit_code(error: ForemaskError) -> Exit:
    # Errors that a server reports are all of one class, so the reason selects the exit code.
    known = errors.REASONS.get(error.reason)
    kind = ForemaskError if known is None else known.kind
    return next((code for code, of in _OF_KINDS.items() if issubclass(kind, of)), Exit.INTERNAL)


@contextmanager
def writing_output() -> Iterator[None]:
    """Raise OutputFailed if standard output takes no more bytes; a closed pipe stays an error."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise errors.OutputFailed(f"standard output cannot be written: {error.strerror}") from error


def print_json(value: object, indent: int | None = 2) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    # JSON has these characters only inside strings, where they may be escaped.
    text = _NOT_FOR_TERMINALS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    with writing_output():
        print(text, flush=True)  # noqa: T201


def say(*lines: str) -> None:
    with writing_output():
        print(*map(printable, lines), sep="\n", flush=True)  # noqa: T201


def answer(facts: object, lines: Iterable[str], *, as_json: bool) -> None:
    if as_json:
        print_json(msgspec.to_builtins(facts))
    elif shown := list(lines):
        say(*shown)


def note(*lines: str) -> None:
    print(*map(printable, lines), sep="\n", file=sys.stderr)  # noqa: T201


def printable(text: str) -> str:
    """Escape control characters, since file names and responses may contain terminal commands."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


_NOT_FOR_TERMINALS = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def show_error(error: ForemaskError, command: str = "COMMAND", clip: str = "") -> None:
    named = f"{clip}: " if clip else ""
    details = error.details if error.details.endswith((".", "!", "?")) else f"{error.details}."
    remedy = error.cli_remedy.replace("COMMAND", command)
    note(" ".join(filter(None, (f"error: {named}{details}", remedy, f"[{error.reason}]"))))

"""What the process's exit code says, and how an error is told: docs/cli.md."""

import json
import sys
from enum import IntEnum

from foremask.errors import (
    BadRequest,
    ClipRefused,
    ForemaskError,
    ModelUnavailable,
    OutputFailed,
    PromiseBroken,
    SettingsInvalid,
    UrlRefused,
)


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
    (BadRequest, Exit.USAGE),
    (SettingsInvalid, Exit.USAGE),
    (ClipRefused, Exit.CLIP_REFUSED),
    (UrlRefused, Exit.URL_REFUSED),
    (ModelUnavailable, Exit.MODEL_UNAVAILABLE),
    (OutputFailed, Exit.OUTPUT_FAILED),
    (PromiseBroken, Exit.PROMISE_BROKEN),
)


class Usage(BadRequest):
    """The command line asks for something that cannot be."""

    reason = "usage"


def exit_code(error: ForemaskError) -> Exit:
    """The exit code that an error ends the process with."""
    return next((code for kind, code in _BY_KIND if isinstance(error, kind)), Exit.INTERNAL)


def show_error(error: ForemaskError, *, of: str | None = None) -> None:
    """One line for people, on standard error; ``of`` names the clip, where there are several."""
    named = f"{of}: " if of else ""
    print(f"error: {named}{error.details} [{error.reason}]", file=sys.stderr)  # noqa: T201


def print_json(value: object) -> None:
    """What ``--json`` answers with, on standard output; an error goes to standard error as ever."""
    print(json.dumps(value, indent=2, ensure_ascii=False))  # noqa: T201


def say(*lines: str) -> None:
    """What a command answers with, on standard output, at once: `serve` goes on for months after its token."""
    print(*lines, sep="\n", flush=True)  # noqa: T201


def warn(line: str) -> None:
    """A remark beside the answer, on standard error."""
    print(f"warning: {line}", file=sys.stderr)  # noqa: T201

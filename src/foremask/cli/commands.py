"""The command line: which commands there are, and how each of them ends."""

import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from types import FrameType
from typing import Annotated, Literal, NoReturn

import cyclopts
from cyclopts import App, CycloptsError, Parameter

from foremask.cli import (
    file_commands,
    making_commands,
    model_commands,
    standard_streams,
)
from foremask.cli.exits import (
    Exit,
    ExtraMissing,
    Misused,
    Usage,
    exit_code,
    missing_package,
    note,
    print_json,
    show_error,
)
from foremask.cli.sources import is_clip_name
from foremask.errors import ForemaskError, Internal

SERVICE_GROUP = "The service, which the server extra brings"
app = App(
    name="foremask",
    help="Foreground masks for video: white is the foreground, whatever it is.",
    version=version("foremask"),
    version_flags=("--version", "-V"),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
app.command(making_commands.mask, help=making_commands.MASK_EXAMPLES, help_format="plaintext")
app.command(making_commands.cutout, help=making_commands.CUTOUT_EXAMPLES, help_format="plaintext")
app.command(making_commands.tracks)
app.command(file_commands.probe)
app.command(file_commands.verify)
app.command(file_commands.sheet)
app.command(file_commands.open_, name="open")
app.command(model_commands.app)
_terminated = threading.Event()
# The module and the help of each command; the module is imported when the command is called.
# SERVICE needs the packages of foremask[server].
SERVICE = {
    "serve": ("service_commands", "Run the whole service on this machine: API, workers, database."),
    "api": ("service_commands", "Run an API process only."),
    "worker": ("service_commands", "Run a worker process only."),
    "token": ("operator_commands", "Who may call the API, and how much."),
    "jobs": ("operator_commands", "List the service's jobs, the newest first."),
    "job": ("operator_commands", "Say what happened to a job, or follow it until it has ended."),
    "webhook": ("operator_commands", "The callbacks that jobs owe."),
    "migrate": ("operator_commands", "Bring the database's tables up to date."),
}
LAZY = {
    "submit": ("remote_commands", "Have a clip masked by a foremask on another machine."),
    "status": ("remote_commands", "Say how far a job of another foremask is."),
    "cancel": ("remote_commands", "Cancel a job of another foremask."),
    "live": ("live_command", "Mask a camera or a pipe as it runs, at the cost of quality."),
    "mcp": ("mcp_command", "Let a model mask clips in some folders: an MCP server."),
    "doctor": ("doctor", "Say what is here: processor, model, database, disk, sandbox."),
}
for _name, (_module, _help) in (LAZY | SERVICE).items():
    _group = SERVICE_GROUP if _name in SERVICE else None
    app.command(f"foremask.cli.{_module}:{_name}", name=_name, help=_help, group=_group)


@app.command(name="help")
def help_(*command: str) -> None:
    """Show this help, or the help of a command.

    Args:
        command: The command.
    """
    if command and command[0] not in app:
        raise Usage(f"there is no command {command[0]}; `foremask help` lists them")
    app.help_print(command)


@app.command(name="version")
def version_() -> None:
    """Print the version."""
    app.version_print()


@app.command
def completion(shell: Literal["bash", "zsh", "fish"], /) -> None:
    """Print the completion script of a shell: eval "$(foremask completion bash)".

    Args:
        shell: The shell; for zsh, save the script as `_foremask` in a folder of fpath.
    """
    if missing_package() is not None:
        for name in SERVICE:
            del app[name]
    print(app.generate_completion(prog_name="foremask", shell=shell))  # noqa: T201  # as it is


@app.meta.default
def _launch(
    *words: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    debug: Annotated[bool, Parameter(negative="", show=False)] = False,
) -> Exit:
    """Run one command.

    Args:
        words: The command and its arguments.
        debug: Show the traceback of an error.
    """
    try:
        _check_none_is_empty(words)
        result = app(standard_streams.named(words), print_error=False, exit_on_error=False)
    except CycloptsError as error:
        return _answer(_misused(error, words), words)
    except KeyboardInterrupt:
        note("interrupted")
        return Exit.INTERRUPTED
    except BrokenPipeError:  # the reader of our output has closed its end
        sys.stderr.close()
        return Exit.OK
    except Exception as error:  # noqa: BLE001  # the outermost: a traceback is shown with --debug only
        if _terminated.is_set():  # during an import that replaced our SystemExit by an error
            return Exit.TERMINATED
        if debug:
            traceback.print_exc()
        if not isinstance(error, ForemaskError):
            error = Internal(f"{type(error).__name__}: {error}")
        return _answer(error, words)
    return result if isinstance(result, Exit) else Exit.OK


def _check_none_is_empty(words: Sequence[str]) -> None:
    """Raise Usage for an empty word: an empty INPUT would mean the current folder."""
    for word in words:
        if not word or (word.startswith("--") and word.endswith("=")):
            raise Usage(f"{word!r} is empty: is a variable of the shell not set?")


def _answer(error: ForemaskError, words: Sequence[str]) -> Exit:
    """Show the error, with --json on standard output too, and return its exit code."""
    if "--json" in words:
        facts = {"reason": error.reason, "details": error.details}
        print_json({"outcome": "failed", "error": facts}, indent=None)
    show_error(error, _command_of(words))
    return exit_code(error)


def _command_of(words: Sequence[str]) -> str:
    first = next((word for word in words if not word.startswith("-")), "")
    return first if first in app else "COMMAND"


def _misused(error: CycloptsError, words: Sequence[str]) -> Misused:
    """The error of cyclopts as ours; common mistakes get messages of our own."""
    details = " ".join(str(error).split())
    if isinstance(error, cyclopts.UnusedCliTokensError):
        details = f"`foremask {_command_of(words)}` takes no {' '.join(error.unused_tokens or ())}"
    elif isinstance(error, cyclopts.UnknownOptionError):
        asked = next(filter(_USUAL_ELSEWHERE.get, (word.partition("=")[0] for word in words)), "")
        if f"option: {asked}" in details and asked:
            details = f"Unknown option: {asked}. Did you mean {_USUAL_ELSEWHERE[asked]}?"
    elif isinstance(error, cyclopts.UnknownCommandError) and is_clip_name(words[0]):
        details = f"there is no command {words[0]}; did you mean `foremask mask {words[0]}`?"
    return Misused(details)


_USUAL_ELSEWHERE = {
    "--out": "--output",
    "--overwrite": "--force",
    "-y": "--force",
    "--gpu": "--device cuda",
    "--cuda": "--device cuda",
    "--bg": "--background",
    "--format": "--preset",
    "--codec": "--preset",
    "--resume": "--skip-existing",
}
"""Options of other programs, and our options that do the same."""


def _extra_missing(words: Sequence[str]) -> ExtraMissing | None:
    """The error for a command whose packages are not installed; even its --help needs them."""
    command = next((word for word in words if not word.startswith("-")), "")
    package = missing_package() if command in SERVICE else None
    if package is None:
        return None
    return ExtraMissing(f"`foremask {command}` is of the service, which needs {package}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; SIGTERM cleans up as Ctrl-C does."""
    words = sys.argv[1:] if arguments is None else arguments
    if (missing := _extra_missing(words)) is not None:
        show_error(missing)
        return exit_code(missing)
    _terminated.clear()
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        code = app.meta(words, print_error=False, exit_on_error=False, result_action="return_value")
    finally:
        signal.signal(signal.SIGTERM, before)
    return code if isinstance(code, int) else Exit.OK


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    _terminated.set()
    raise SystemExit(Exit.TERMINATED)

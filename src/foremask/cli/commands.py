"""Declares the commands, runs one, and turns its result or error into an exit code."""

import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Annotated, Literal, NoReturn

import cyclopts
from cyclopts import App, CycloptsError, Parameter

from foremask.cli import exits, file_commands, making_commands, model_commands, standard_streams
from foremask.cli.exits import Exit, Usage, extra_missing, has_server_extra, show_error
from foremask.cli.sources import is_clip_name
from foremask.errors import BadRequest, ForemaskError, Internal, OutputFailed

REMOTE_GROUP = "Jobs on another machine"
SERVICE_GROUP = "Service commands, which need the server extra"
app = App(
    name="foremask",
    help_format="plaintext",  # importing Markdown takes a third of the time
    help="Foreground masks of videos: white is the foreground, black the background.",
    version=version("foremask"),
    version_flags=("--version", "-V"),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
app.command(making_commands.mask, sort_key=1)  # the first in the help
app.command(making_commands.cutout, sort_key=2)
app.command(making_commands.tracks)
app.command(making_commands.live)
app.command(file_commands.probe)
app.command(file_commands.verify)
app.command(file_commands.sheet)
app.command(file_commands.open_, name="open")
app.command(model_commands.app)
_terminated = threading.Event()


def _not_installed() -> None:
    """Stand in for a command of the service, for the list of commands; `main` refuses it."""


# A module is imported when its command is called. The modules in SERVICE need foremask[server].
SERVICE = {
    "serve": ("service_commands", "Run the whole service on this machine until Ctrl-C."),
    "api": ("service_commands", "Run only an API; FOREMASK_DATABASE_URL names its database."),
    "worker": ("service_commands", "Run only a worker; FOREMASK_DATABASE_URL names its database."),
    "token": ("operator_commands", "Make, list and revoke API tokens."),
    "jobs": ("operator_commands", "List the service's jobs, the newest first."),
    "job": ("operator_commands", "Show a job's history: each attempt, its worker and its outcome."),
    "webhook": ("operator_commands", "Send a job's webhook again."),
    "migrate": ("operator_commands", "Bring the database's tables up to date."),
}
LAZY = {
    "submit": ("remote_commands", "Submit a clip to a foremask service on another machine."),
    "status": ("remote_commands", "Show the progress of a job on another machine."),
    "cancel": ("remote_commands", "Cancel a job on another machine."),
    "doctor": ("doctor", "Check whether this machine can mask and serve; exit with 1 if not."),
}
for _name, (_module, _help) in LAZY.items():
    _group = REMOTE_GROUP if _module == "remote_commands" else None
    app.command(f"foremask.cli.{_module}:{_name}", name=_name, help=_help, group=_group)
for _name, (_module, _help) in SERVICE.items():
    # After a slip, cyclopts imports every command, to say which one was meant.
    _command = f"foremask.cli.{_module}:{_name}" if has_server_extra() else _not_installed
    app.command(_command, name=_name, help=_help, group=SERVICE_GROUP)


@app.command(name="help")
def help_(*command: str) -> None:
    """Show this help, or the help of a command.

    Args:
        command: The command, such as `mask`, or `token create`.
    """
    if command and command[0] not in app:
        raise Usage(f"there is no command {command[0]}; `foremask help` lists them")
    app.help_print(command)


@app.command(name="version")
def version_() -> None:
    """Print the version."""
    app.version_print()


@app.command
def mcp(*, folder: Annotated[list[Path], Parameter(negative="")]) -> None:
    """Run an MCP server on standard input and output, for language models.

    Args:
        folder: A folder for clips and masks. Repeat --folder for several folders.
    """
    if find_spec("mcp") is None:
        raise extra_missing("`foremask mcp` needs the package mcp", "mcp")
    from foremask.cli.mcp_server import McpTools

    McpTools(folder).server().run()


@app.command
def completion(shell: Literal["bash", "zsh", "fish"], /) -> None:
    """Print the completion script of a shell: eval "$(foremask completion bash)".

    Args:
        shell: The shell; for zsh, save the script as `_foremask` in a folder of fpath.
    """
    if not has_server_extra():
        for name in SERVICE:
            del app[name]
    print(app.generate_completion(prog_name="foremask", shell=shell))  # noqa: T201  # unescaped


@app.meta.default
def _launch(
    *words: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    debug: Annotated[bool, Parameter(negative="", show=False)] = False,
) -> Exit:
    try:
        result = app(standard_streams.named(words), print_error=False, exit_on_error=False)
    except CycloptsError as error:
        return _answer(_misused(error, words), words)
    except KeyboardInterrupt:
        exits.note("interrupted")
        return Exit.INTERRUPTED
    except SystemExit:
        if not _terminated.is_set():
            raise
        return Exit.TERMINATED  # Ray raises the SystemExit of `_leave` anew, without its code
    except BrokenPipeError:  # the program that reads our output has ended
        sys.stderr.close()
        return Exit.OK
    except Exception as error:  # noqa: BLE001  # only --debug shows tracebacks
        if _terminated.is_set():  # an import turned the SystemExit of `_leave` into an error
            return Exit.TERMINATED
        if debug:
            traceback.print_exc()
        return _answer(_named(error), words)
    return result if isinstance(result, Exit) else Exit.OK


def _named(error: Exception) -> ForemaskError:
    if isinstance(error, ForemaskError):
        return error
    if isinstance(error, FileNotFoundError) and not _has_working_directory():
        return Usage("the working directory was deleted: change to another one")
    return Internal(f"{type(error).__name__}: {error}")


def _has_working_directory() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True


def _answer(error: ForemaskError, words: Sequence[str]) -> Exit:
    if "--json" in words:
        facts = {"reason": error.reason, "details": error.details}
        with suppress(OutputFailed):  # the error itself may be that of a full standard output
            exits.print_json({"outcome": "failed", "error": facts}, indent=None)
    command = _command_of(words)
    show_error(error, command if command in app else "COMMAND")
    return exits.exit_code(error)


def _command_of(words: Sequence[str]) -> str:
    return next((word for word in words if not word.startswith("-")), "")


def _misused(error: CycloptsError, words: Sequence[str]) -> Usage:
    details = " ".join(str(error).split())
    if isinstance(error, cyclopts.UnusedCliTokensError):
        details = f"`foremask {_command_of(words)}` takes no {' '.join(error.unused_tokens or ())}"
    elif isinstance(error, cyclopts.MissingArgumentError) and error.keyword is None:
        details = _missing(error.argument)
    elif isinstance(error, cyclopts.UnknownCommandError) and is_clip_name(words[0]):
        details = f"there is no command {words[0]}; did you mean `foremask mask {words[0]}`?"
    return Usage(details, cli_remedy=BadRequest.usual_cli_remedy)


def _missing(argument: cyclopts.Argument | None) -> str:
    name = "an argument" if argument is None else argument.name
    about = None if argument is None else argument.parameter.help
    if not about:
        return f"{name} is missing"
    about = about.rstrip(".")
    return f"{name} is missing ({about[0].lower()}{about[1:]})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code. SIGTERM cleans up as Ctrl-C does."""
    words = sys.argv[1:] if arguments is None else arguments
    command = _command_of(words)
    if command in SERVICE and not has_server_extra():  # even --help would import the module
        show_error(extra_missing(f"`foremask {command}` needs the service, which is not installed"))
        return Exit.USAGE
    _terminated.clear()
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        with exits.writing_output():  # by --help, which no command prints
            code = app.meta(
                words, print_error=False, exit_on_error=False, result_action="return_value"
            )
    except OutputFailed as error:
        show_error(error)
        return exits.exit_code(error)
    finally:
        signal.signal(signal.SIGTERM, before)
    return code if isinstance(code, int) else Exit.OK


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    _terminated.set()
    raise SystemExit(Exit.TERMINATED)

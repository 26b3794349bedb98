"""``foremask-trackers``: lists the trackers, and downloads and checks their files."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from foremask.cli.exits import Exit, Usage, answer, exit_code, note, say, show_error
from foremask.cli.progress_bar import progress_bar
from foremask.errors import ForemaskError
from foremask.machine import hardware
from foremask.settings import read_settings
from foremask_trackers.files import HUB_FILES, HubFiles, TrackerName, WordsName
from foremask_trackers.hub import pull_files

app = App(name="foremask-trackers", help="The trackers, and their weights on this machine.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    name: str
    purpose: str
    licence: str
    page: str
    size_bytes: int
    is_here: bool
    memory_bytes: int | None
    runs_here: bool | None
    """Whether this machine's memory suffices; None if nobody has measured what is needed."""


@app.default
def list_(
    *, as_json: Annotated[bool, Parameter(name="--json", negative="", help="Print JSON.")] = False
) -> None:
    """List the trackers, and what finds what words name."""
    facts = [_facts(files, read_settings(os.environ).model_dir) for files in HUB_FILES.values()]
    answer(facts, [line for each in facts for line in _lines(each)], as_json=as_json)


@app.command
def pull(
    name: TrackerName | WordsName,
    /,
    *,
    brought: Annotated[Path | None, Parameter(name="--from")] = None,
) -> None:
    """Download and check the files of a tracker, or of what finds words.

    Args:
        name: A name that `foremask-trackers` lists.
        brought: A folder with the files, from another machine.
    """
    files = HUB_FILES[name]
    model_dir = read_settings(os.environ).model_dir
    if brought is not None and not brought.is_dir():
        raise Usage(f"{brought} is not a folder: a tracker's files come in one")
    if brought is None and not files.are_in(model_dir / files.name):
        note(
            f"{files.name} is not in {model_dir} yet: {files.size_bytes / 1e6:.0f} MB come from"
            f" {files.page} ({files.licence}), once"
        )
        if files.is_gated:
            note(f"only for accounts that were let in: ask at {files.page}, then `hf auth login`")
    with progress_bar("weights", "MB") as show:
        say(str(pull_files(files, model_dir, show, brought=brought)))


def main() -> int:
    try:
        app(sys.argv[1:], result_action="return_value")
    except ForemaskError as error:
        show_error(error)
        return exit_code(error)
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    return Exit.OK


def _facts(files: HubFiles, model_dir: Path) -> Listed:
    runs_here = None
    if files.memory_bytes is not None:
        runs_here = files.memory_bytes <= hardware.share_of_memory(1)
    return Listed(
        name=files.name,
        purpose=files.purpose,
        licence=files.licence,
        page=files.page,
        size_bytes=files.size_bytes,
        is_here=files.are_in(model_dir / files.name),
        memory_bytes=files.memory_bytes,
        runs_here=runs_here,
    )


def _lines(listed: Listed) -> list[str]:
    here = "here" if listed.is_here else "not here"
    runs = "memory not measured"
    if listed.memory_bytes is not None:
        runs = f"needs {listed.memory_bytes / 1e9:.1f} GB of memory"
        if not listed.runs_here:
            runs += ", more than this machine gives"
    return [
        f"{listed.name:<19} {listed.size_bytes / 1e6:>4.0f} MB, {here}, {runs}",
        f"    {listed.purpose}",
        f"    {listed.licence} ({listed.page})",
    ]


if __name__ == "__main__":
    sys.exit(main())

"""Draws docs/pictures/terminal-*.svg: what a terminal shows of our commands, captured in tmux.

    python -m benchmarks.terminal [help|progress|summary|error|doctor ...]

The clips are drawn, and a small network that takes red for the foreground stands in for ours, but
for `doctor`. The home directory is shown as ``~``.
"""

import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text
from tests.support import networks, synth

PICTURES: Final = Path(__file__).parents[1] / "docs" / "pictures"
COLUMNS: Final = 84
PATIENCE_S: Final = 600.0
PROMPT: Final = "$ "
# As rich has it, but for the fonts that it would have the reader's browser fetch.
_SVG: Final = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
font-size: {char_height}px; line-height: {line_height}px; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


@dataclass(frozen=True, slots=True)
class Scene:
    """A command, and whether what the terminal shows is what is to be drawn."""

    title: str
    command: str
    is_shown: Callable[[str], object]
    rows: int
    settings: Mapping[str, str]


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="foremask-pictures-") as name:
        folder = Path(name)
        _draw_clips(folder)
        scenes = _scenes(folder)
        for wanted in sys.argv[1:] or scenes:
            shown = _captured(scenes[wanted], folder)
            target = PICTURES / f"terminal-{wanted}.svg"
            target.write_text(_svg(shown, scenes[wanted].title), encoding="utf-8")
            print(target)
    return 0


def _draw_clips(folder: Path) -> None:
    (folder / "footage").mkdir()
    for name, frames in (("beach.mp4", 120), ("dance.mov", 240), ("harbour.webm", 120)):
        codec = "vp9" if name.endswith("webm") else "h264"
        spec = synth.Spec(320, 180, pts=tuple(range(0, 1000 * frames, 1000)), codec=codec)
        synth.write(folder / "footage" / name, spec)
    (folder / "notes.mp4").write_text("of the day\n" * 100)
    networks.redness(folder, bias=-5.0)


def _scenes(folder: Path) -> dict[str, Scene]:
    drawn = {"FOREMASK_MODEL_FILE": str(folder / "redness.onnx")}
    three = "foremask mask footage/ -o masks/"
    return {
        "help": Scene("foremask mask --help", "foremask mask --help", _has_ended, 40, {}),
        "progress": Scene(
            three, three, re.compile(r"2/3 [^\n]*[1-9]\d\d/\d+ frames[^\n]*all").search, 10, drawn
        ),
        "summary": Scene(
            "a batch with a file that is no clip",
            "foremask mask footage/ notes.mp4 -o done/",
            _has_ended,
            14,
            drawn,
        ),
        "error": Scene("an error", "foremask mask notes.mp4", _has_ended, 6, drawn),
        "doctor": Scene("foremask doctor", "foremask doctor", _has_ended, 24, {}),
    }


def _has_ended(shown: str) -> bool:
    return shown.rstrip("\n ").endswith(f"\n{PROMPT.strip()}")


def _captured(scene: Scene, folder: Path) -> str:
    """What the terminal shows when the scene is there, with its colours."""
    tmux = ["tmux", "-L", f"foremask-{os.getpid()}", "-f", "/dev/null"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    settings = {**scene.settings, "PATH": path, "PS1": PROMPT, "COLORTERM": "truecolor"}
    words = [f"{name}={text}" for name, text in settings.items()]
    shell = shlex.join(["env", *words, "bash", "--norc", "--noprofile"])
    size = ["-x", str(COLUMNS), "-y", str(scene.rows)]
    _run(*tmux, "new-session", "-d", *size, "-c", str(folder), shell)
    try:
        _run(*tmux, "set-option", "-g", "status", "off")
        _run(*tmux, "send-keys", scene.command, "Enter")
        until = time.monotonic() + PATIENCE_S
        while not scene.is_shown(_run(*tmux, "capture-pane", "-p")):
            if time.monotonic() > until:
                raise TimeoutError(scene.title)
            time.sleep(0.05)
        return _run(*tmux, "capture-pane", "-e", "-p")
    finally:
        _run(*tmux, "kill-server")


def _svg(shown: str, title: str) -> str:
    shown = shown.replace(str(Path.home()), "~").rstrip().removesuffix(PROMPT.strip()).rstrip()
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True)
        console.print(Text.from_ansi(shown), soft_wrap=True)
        return console.export_svg(
            title=title, theme=MONOKAI, code_format=_SVG, unique_id="foremask"
        )


def _run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout  # noqa: S603


if __name__ == "__main__":
    sys.exit(main())

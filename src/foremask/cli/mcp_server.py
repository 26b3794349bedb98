"""The MCP tools of ``foremask mcp``."""

import os
import reprlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal, NotRequired, TypedDict

import msgspec
from anyio import CapacityLimiter, from_thread, to_thread
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, InputRequiredResult
from pydantic import ConfigDict, ValidationError, with_config

from foremask.cli import model_commands
from foremask.cli.exits import Usage
from foremask.cli.file_commands import made_next_to
from foremask.cli.sources import check_there
from foremask.errors import ForemaskError
from foremask.hints.kinds import Box, Point
from foremask.masking.library import FileReport, cut_out, mask_video
from foremask.masking.sheet import draw_sheet, warnings_of
from foremask.media import probe as probing
from foremask.options import Background
from foremask.pipeline.progress import Progress
from foremask.settings import read_settings

INSTRUCTIONS = (
    "Masks and cuts out the subject of videos. Mask a clip, show its contact_sheet, and where"
    " another thing is the subject, mask again with a point on it. Paths are relative to {root}."
)
MOST_MOMENTS = 10  # rows of a contact sheet
_NOTHING_ELSE = ConfigDict(extra="forbid")

type QualityWord = Literal["fast", "balanced", "best"]


@with_config(_NOTHING_ELSE)
class PointAt(TypedDict):
    """A point on the subject; if ``negative``, outside it. (0, 0) is the upper left corner."""

    x: float
    y: float
    time_s: NotRequired[float]
    negative: NotRequired[bool]


@with_config(_NOTHING_ELSE)
class BoxAt(PointAt):
    """A rectangle around the subject; x and y are its upper left corner."""

    width: float
    height: float


# Pydantic names Python's types to a model that knows those of JSON.
JSON_NAMES: Final = {
    "sequence_str": "a list",
    "is_instance_of": "a list",  # only points and boxes have such a type, Sequence
    "dict_type": "an object",
    "float_parsing": "a number",
    "float_type": "a number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "a string",
}


class _Server(MCPServer):
    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context | None = None
    ) -> CallToolResult | InputRequiredResult:
        for tool in await self.list_tools():
            known = tool.input_schema["properties"]
            unknown = [each for each in arguments if tool.name == name and each not in known]
            if unknown:
                raise ToolError(f"{name} has no {unknown[0]}; it has {', '.join(known)} [usage]")
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            if not isinstance(error.__cause__, ValidationError):
                raise
            raise ToolError(f"{_described(error.__cause__)} [usage]") from None


def _described(invalid: ValidationError) -> str:
    """The first wrong argument, in one line; pydantic's text has several, with links."""
    wrong = invalid.errors()[0]
    argument = "".join(
        f"[{each}]" if isinstance(each, int) else f".{each}" for each in wrong["loc"]
    )
    argument = argument.removeprefix(".")
    if wrong["type"] == "missing":
        return f"{argument} is missing"
    if wrong["type"] == "extra_forbidden":
        where, _, name = argument.rpartition(".")
        return f"{where} has no {name}"
    expected = JSON_NAMES.get(wrong["type"])
    if expected is not None:
        reason = f"it should be {expected}"
    else:
        reason = wrong["msg"].replace("Input should", "it should")
    return f"{argument} is {reprlib.repr(wrong['input'])}; {reason}"


class McpTools:
    """Tools that use only files in ``folders``, and mask one clip at a time."""

    def __init__(self, folders: Sequence[Path]) -> None:
        for folder in folders:
            if not folder.is_dir():
                raise Usage(f"--folder {folder} is not a folder that is here")
        self._roots = [folder.resolve() for folder in folders]
        self._one_at_a_time = CapacityLimiter(1)

    def server(self) -> MCPServer:
        server = _Server(
            "foremask",
            version=version("foremask"),
            instructions=INSTRUCTIONS.format(root=self._roots[0]),
            log_level="WARNING",
        )
        for tool in (self.mask, self.cutout, self.probe):
            server.add_tool(tool)
        server.add_tool(self.contact_sheet, structured_output=False)
        return server

    async def mask(
        self,
        ctx: Context,
        clip: str,
        output: str | None = None,
        points: Sequence[PointAt] = (),
        boxes: Sequence[BoxAt] = (),
        start_s: float = 0.0,
        end_s: float | None = None,
        quality: QualityWord = "balanced",
        replace: bool = False,
    ) -> dict[str, Any]:
        """Write the mask video of a clip: white is the subject. Masking can take minutes.

        output ends in .mp4, .mov, .webm, .mkv or .gif; by default, the mask of clip.mp4 is
        clip.mask.mp4 beside it. The subject is found automatically. Points or boxes, in the clip's
        pixels, select another subject. replace overwrites an output that exists.
        """
        make = partial(mask_video, start_s=start_s, end_s=end_s, quality=quality, replace=replace)
        return await self._made(ctx, make, clip, output, points, boxes)

    async def cutout(
        self,
        ctx: Context,
        clip: str,
        output: str | None = None,
        background: str = "transparent",
        mask: str | None = None,
        points: Sequence[PointAt] = (),
        boxes: Sequence[BoxAt] = (),
        quality: QualityWord = "balanced",
        replace: bool = False,
    ) -> dict[str, Any]:
        """Cut out the subject of a clip or picture.

        Without output, clip.mp4 becomes clip.cutout.webm beside it, and photo.jpg becomes
        photo.cutout.png. background is transparent, a colour by name or #rrggbb, blur, original:0.3
        (dimmed), or the path of a picture or video. mask is an existing mask video of the clip;
        without it, a mask is made. The other arguments are those of the tool mask.
        """

        def make(source: Path, target: Path | None, **more: Any) -> FileReport:  # noqa: ANN401
            behind = background if Background.is_named(background) else self._clip(background)
            known = None if mask is None else self._clip(mask)
            more |= {"quality": quality, "replace": replace}
            return cut_out(source, target, background=behind, mask=known, **more)

        return await self._made(ctx, make, clip, output, points, boxes)

    def probe(self, clip: str) -> dict[str, Any]:
        """Show a clip's size, frames, frame rate, length, codecs and sound."""
        with _for_the_model():
            facts: dict[str, Any] = msgspec.to_builtins(probing.probe(self._clip(clip)))
        return facts

    def contact_sheet(
        self, clip: str, mask: str | None = None, moments: int = 4
    ) -> list[Image | str]:
        """Show source, mask, overlay and cut-out in one picture, with a row for each moment.

        Without mask, it is clip.mask.mp4 (or .mov, ...) beside clip.mp4. Each row has its frame's
        number and time.
        """
        with _for_the_model():
            if not 1 <= moments <= MOST_MOMENTS:
                raise Usage(f"moments is 1 to {MOST_MOMENTS}, and not {moments}")
            source = self._clip(clip)
            if mask is None:
                mask = str(made_next_to(source))
            made = self._clip(mask)
            warnings = warnings_of(source, made)
            return [Image(data=draw_sheet(source, made, moments), format="png"), *warnings]

    async def _made(
        self,
        ctx: Context,
        make: Callable[..., FileReport],
        clip: str,
        output: str | None,
        points: Sequence[PointAt],
        boxes: Sequence[BoxAt],
    ) -> dict[str, Any]:
        sent = 0

        def on_progress(progress: Progress) -> None:
            nonlocal sent
            from_thread.check_cancelled()
            if progress.frames_done > sent:
                sent = progress.frames_done
                from_thread.run(ctx.report_progress, sent, progress.frames_total)

        def work() -> FileReport:
            return make(
                self._clip(clip),
                self._output(output),
                model=model_commands.ready(read_settings(os.environ)),
                hints=[*(Box(**each) for each in boxes), *(Point(**each) for each in points)],
                on_progress=on_progress,
            )

        with _for_the_model():
            made = await to_thread.run_sync(work, limiter=self._one_at_a_time)
        return {
            "file": str(made.target),
            "frames": made.frames_out,
            "duration_s": made.duration_s,
            "foreground_share": round(made.coverage, 4),
            "warnings": list(made.warnings),
        }

    def _clip(self, named: str) -> Path:
        path = self._inside(named)
        check_there(path)
        return path

    def _output(self, named: str | None) -> Path | None:
        path = None if named is None else self._inside(named)
        if path is not None and "%" in path.name:  # a PNG sequence would replace its whole folder
            raise Usage(f"{named} would be many files: name one file, without %")
        return path

    def _inside(self, named: str) -> Path:
        """Resolve links and ``..`` in a path; a relative path starts in the first folder.

        Raises Usage for a path outside the folders, whether or not that file exists.
        """
        try:
            path = (self._roots[0] / named).resolve()
        except (OSError, RuntimeError, ValueError):  # links in a circle, a NUL, a name too long
            raise Usage(f"{named!r} cannot be the path of a file") from None
        if not any(path.is_relative_to(root) for root in self._roots):
            allowed = ", ".join(map(str, self._roots))
            raise Usage(
                f"{named} is outside the folders that may be used: {allowed}. Name a file in one."
            )
        return path


@contextmanager
def _for_the_model() -> Iterator[None]:
    # The language model sees the message of a ToolError, but of no other error.
    try:
        yield
    except ForemaskError as error:
        raise ToolError(f"{error.details} [{error.reason}]") from error

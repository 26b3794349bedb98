import base64
import json
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp_types import ImageContent, TextContent

from foremask.cli.mcp_server import McpTools
from foremask.machine import paths
from foremask.media.verify import verify
from foremask.options import ResultKind
from tests.support import networks, synth
from tests.support.programs import NODE, Run, packages, ran

INSPECTOR = "@modelcontextprotocol/inspector/clients/launcher/build/index.js"


@pytest.fixture
def footage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    model = networks.redness(tmp_path, bias=-5.0)
    monkeypatch.setenv("FOREMASK_MODEL_FILE", str(model))
    folder = tmp_path / "footage"
    folder.mkdir()
    synth.write(folder / "clip.mp4")
    synth.write(tmp_path / "secret.mp4")
    (folder / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    (folder / "up").symlink_to(tmp_path)
    (folder / "round.mp4").symlink_to("round.mp4")
    return folder


def in_process(folder: Path) -> Client:
    return Client(McpTools([folder]).server())


async def refusal(server: Client, tool: str, **arguments: object) -> str:
    answer = await server.call_tool(tool, arguments)
    (text,) = answer.content
    assert isinstance(text, TextContent)
    assert answer.is_error, text.text
    return text.text


@pytest.mark.slow
def test_the_inspector_lists_the_tools_and_calls_one(footage: Path) -> None:
    inspector = [NODE, str(packages() / INSPECTOR), "--cli", sys.executable, "-m", "foremask"]
    inspector += ["mcp", "--folder", str(footage), "--connect-timeout", "0"]
    inspector += ["-e", f"FOREMASK_MODEL_FILE={footage.parent / 'redness.onnx'}"]
    inspector += ["-e", f"XDG_CACHE_HOME={paths.cache_dir().parent}"]

    def asked(method: str, *more: str) -> Any:  # noqa: ANN401
        return json.loads(ran(*inspector, "--method", method, *more).stdout)

    tools = [tool["name"] for tool in asked("tools/list", "--strict")["tools"]]
    assert tools == ["mask", "cutout", "probe", "contact_sheet"]
    given = ["--tool-arg", "clip=clip.mp4", "--tool-arg", 'points=[{"x": 20, "y": 24}]']
    made = asked("tools/call", "--tool-name", "mask", *given)
    assert made["structuredContent"]["frames"] == 10
    verify(footage / "clip.mp4", footage / "clip.mask.mp4")


async def test_each_tool_answers_with_what_it_made(footage: Path) -> None:
    clip = {"clip": "clip.mp4"}
    box = {"x": 2, "y": 2, "width": 60, "height": 44}
    async with in_process(footage) as server:
        made = await server.call_tool("mask", clip | {"points": [{"x": 20, "y": 24}]})
        assert (made.structured_content or {})["frames"] == 10
        white = {"boxes": [box], "background": "white", "output": "cut.mp4"}
        assert not (await server.call_tool("cutout", clip | white)).is_error
        (picture,) = (await server.call_tool("contact_sheet", clip)).content
        assert isinstance(picture, ImageContent)
        assert base64.b64decode(picture.data).startswith(b"\x89PNG")
        facts = (await server.call_tool("probe", clip)).structured_content or {}
        assert (facts["width"], facts["frames"]) == (64, 10)
    verify(footage / "clip.mp4", footage / "clip.mask.mp4")
    verify(footage / "clip.mp4", footage / "cut.mp4", ResultKind.COMPOSITE)


async def test_a_point_out_counts_inside_a_box(footage: Path) -> None:
    box = {"x": 0, "y": 0, "width": 64, "height": 48}
    shares = []
    async with in_process(footage) as server:
        for points in ([], [{"x": 20, "y": 24, "negative": True}]):
            asked = {"clip": "clip.mp4", "boxes": [box], "points": points, "replace": True}
            made = await server.call_tool("mask", asked)
            assert made.structured_content is not None
            shares.append(made.structured_content["foreground_share"])
    assert shares[1] < shares[0]


def stamps(folder: Path) -> dict[Path, int]:
    return {each: each.lstat().st_mtime_ns for each in folder.rglob("*")}


@pytest.mark.parametrize(
    "path", ["../secret.mp4", "SECRET", "link.mp4", "up/secret.mp4", "up/../../x", "/etc/passwd"]
)
async def test_nothing_outside_the_folders_is_read_or_written(footage: Path, path: str) -> None:
    path = path.replace("SECRET", str(footage.parent / "secret.mp4"))
    before = stamps(footage.parent)
    async with in_process(footage) as server:
        clip = {"clip": "clip.mp4"}
        for tool, arguments in (
            ("probe", {"clip": path}),
            ("mask", {"clip": path}),
            ("mask", clip | {"output": path, "replace": True}),
            ("cutout", {"clip": path}),
            ("cutout", clip | {"output": path, "replace": True}),
            ("cutout", clip | {"background": path}),
            ("cutout", clip | {"mask": path}),
            ("contact_sheet", clip | {"mask": path}),
            ("contact_sheet", {"clip": path, "mask": "clip.mp4"}),
        ):
            text = await refusal(server, tool, **arguments)
            assert f"{path} is outside the folders that may be used: {footage}." in text
    assert stamps(footage.parent) == before


async def test_a_link_in_the_place_of_the_mask_is_not_followed(footage: Path) -> None:
    (footage / "clip.mask.mp4").symlink_to(footage.parent / "secret.mp4")
    secret = (footage.parent / "secret.mp4").read_bytes()
    async with in_process(footage) as server:
        assert "exists already" in await refusal(server, "mask", clip="clip.mp4")
        made = await server.call_tool("mask", {"clip": "clip.mp4", "replace": True})
    assert not made.is_error
    assert (footage.parent / "secret.mp4").read_bytes() == secret
    assert not (footage / "clip.mask.mp4").is_symlink()


async def test_what_cannot_be_is_a_sentence(footage: Path) -> None:
    async with in_process(footage) as server:
        assert "there is no file" in await refusal(server, "probe", clip="none.mp4")
        for path in ("a\0b", "x" * 300, "round.mp4"):
            assert "[usage]" in await refusal(server, "probe", clip=path)
        many = await refusal(server, "cutout", clip="clip.mp4", output="%04d.png")
        assert "name one file, without %" in many
        far = await refusal(server, "mask", clip="clip.mp4", points=[{"x": 900, "y": 2}])
        assert "hints[0].x is 900; it may be from 0 to 63." in far
        sheet = {"clip": "clip.mp4", "mask": "clip.mp4", "moments": 11}
        assert "moments is 1 to 10" in await refusal(server, "contact_sheet", **sheet)
        assert "name the mask" in await refusal(server, "contact_sheet", clip="clip.mp4")
        late, side = {"x": 1, "y": 1, "frame": 3}, {"width": 9, "height": 9}
        for wrong, said in (
            ({}, "clip is missing [usage]"),
            ({"clip": "clip.mp4", "qualty": "best"}, "mask has no qualty; it has clip, output,"),
            ({"clip": "clip.mp4", "quality": "high"}, "quality is 'high'; it should be 'fast',"),
            ({"clip": "clip.mp4", "points": [{"x": "a", "y": 1}]}, "points[0].x is 'a'; it should"),
            ({"clip": "clip.mp4", "points": [late]}, "points[0] has no frame [usage]"),
            ({"clip": "clip.mp4", "boxes": [late | side]}, "boxes[0] has no frame [usage]"),
            ({"clip": "clip.mp4", "points": "abc"}, "points is 'abc'; it should be a list [usage]"),
            ({"clip": "clip.mp4", "points": 5}, "points is 5; it should be a list [usage]"),
            (
                {"clip": "clip.mp4", "boxes": {"x": 1}},
                "boxes is {'x': 1}; it should be a list [usage]",
            ),
            (
                {"clip": "clip.mp4", "points": ["a"]},
                "points[0] is 'a'; it should be an object [usage]",
            ),
            ({"clip": "clip.mp4", "replace": "x"}, "replace is 'x'; it should be true or false ["),
            ({"clip": "clip.mp4", "end_s": [1]}, "end_s is [1]; it should be a number [usage]"),
            ({"clip": 5}, "clip is 5; it should be a string [usage]"),
            ({"clip": "clip.mp4", "start_s": 1e308}, "start_s is 1e+308; it may be from 0 to"),
            ({"clip": "clip.mp4", "end_s": 1e308}, "end_s is 1e+308; it may be from 0 to"),
        ):
            assert said in await refusal(server, "mask", **wrong)


async def test_a_second_folder_is_named_by_its_whole_path(footage: Path) -> None:
    more = footage.parent / "more"
    more.mkdir()
    clip = synth.write(more / "clip.mp4")
    done: list[float] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        done.append(progress)

    async with Client(McpTools([footage, more]).server()) as server:
        made = await server.call_tool("mask", {"clip": str(clip)}, progress_callback=on_progress)
    assert done == sorted(set(done))
    assert done[-1] == 10
    assert (made.structured_content or {})["file"] == str(more / "clip.mask.mp4")


async def test_a_call_that_is_cancelled_leaves_no_file(footage: Path) -> None:
    before = stamps(footage)
    async with in_process(footage) as server:
        with anyio.CancelScope() as call:

            async def cancel(progress: float, total: float | None, message: str | None) -> None:
                call.cancel()

            await server.call_tool("mask", {"clip": "clip.mp4"}, progress_callback=cancel)
        assert call.cancelled_caught
        await server.call_tool("probe", {"clip": "clip.mp4"})
    assert stamps(footage) == before


def test_without_a_folder_or_the_extra_it_says_what_to_do(
    footage: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = run.refused("mcp", "--folder", footage / "clip.mp4")
    assert "clip.mp4 is not a folder that is here" in wrong
    monkeypatch.setitem(sys.modules, "mcp", None)
    assert "pip install 'foremask[mcp]'" in run.refused("mcp", "--folder", footage)

"""The hosted service's own MCP server, unchanged, in front of ours: its base URL is another."""

import asyncio
import sys
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters
from mcp_types import CallToolResult, TextContent

from foremask.media.verify import verify
from foremask.options import ResultKind
from tests.service.api.conftest import Running
from tests.service.api.patient import http
from tests.service.api.work import upload
from tests.service.api.worker import working

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


def called(service: Running, tool: str, **arguments: object) -> tuple[bool, str]:
    """Whether a tool of `bria-mcp`, a process of its own, failed at our service, and its text."""
    program = str(Path(sys.executable).with_name("bria-mcp"))
    known = {"BRIA_BASE_URL": service.url, "BRIA_API_TOKEN": service.token}

    async def call() -> CallToolResult:
        async with Client(StdioServerParameters(command=program, env=known)) as server:
            return await server.call_tool(tool, arguments)

    answer = asyncio.run(call())
    (text,) = answer.content
    assert isinstance(text, TextContent)
    return answer.is_error, text.text


def test_remove_video_background_makes_a_cut_out(
    service: Running, drawn: Path, tmp_path: Path
) -> None:
    clip = upload(service, drawn / "good.mp4")
    with working(service, tmp_path):
        failed, text = called(service, "remove_video_background", video=clip)
    answer, _, url = text.partition(": ")
    assert (failed, answer) == (False, "Video with background removed")
    (tmp_path / "made.webm").write_bytes(http.get(url).content)
    verify(drawn / "good.mp4", tmp_path / "made.webm", ResultKind.COMPOSITE)  # over black


@pytest.mark.parametrize(
    ("tool", "more", "instead"),
    [
        ("video_mask_by_prompt", {"prompt": "the dog"}, "`hints`"),
        ("increase_video_resolution", {}, "does not enlarge"),
        ("erase_from_video", {"mask_video": "http://example.com/mask.mp4"}, "does not erase"),
    ],
)
def test_a_tool_that_we_have_nothing_for_says_what_there_is(
    service: Running, tool: str, more: dict[str, str], instead: str
) -> None:
    failed, text = called(service, tool, video="http://example.com/clip.mp4", **more)
    assert failed
    assert "Bria API error 404: " in text
    assert instead in text
    assert "POST /v2/video/segment/foreground_mask" in text

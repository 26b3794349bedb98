"""The hosted service's own SDK and MCP server against ours: clients change their base URL."""

import asyncio
import json
import re
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from bria_client import BriaAsyncClient, BriaSyncClient
from bria_client.toolkit import BriaResponse
from bria_client.toolkit.errors import BriaException
from bria_client.toolkit.models import Status
from bria_client.toolkit.webhook_verification import verify_webhook_signature
from httpx_retries import Retry
from mcp import Client, StdioServerParameters
from mcp_types import CallToolResult, TextContent

from foremask.media.verify import verify
from foremask.options import MEDIA_TYPES, Preset, ResultKind
from foremask.service.jobs.tokens import TokenLimits
from tests.service.api.conftest import Running, http
from tests.service.api.worker import complete, upload, working
from tests.support.origin import gives, listening
from tests.support.patience import PATIENCE_S, wait_until

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the SDK's own

ENDPOINT = "video/segment/foreground_mask"


@pytest.fixture
def sdk(service: Running) -> BriaSyncClient:
    return BriaSyncClient(base_url=f"{service.url}/", api_token=service.token)


def test_submit_and_poll(sdk: BriaSyncClient, service: Running, good: str, drawn: Path) -> None:
    with sdk:
        made = sdk.submit(ENDPOINT, {"video": good}, raise_for_status=True)
        assert made.in_progress
        assert made.status_url == f"{service.url}/v2/status/{made.request_id}"
        assert sdk.status(made.request_id) == Status.RUNNING
        asyncio.run(complete(service, made.request_id, drawn / "good.mp4"))
        done = sdk.poll(made, interval=0.1, timeout=int(PATIENCE_S))
    assert done.status == Status.COMPLETED
    assert done.request_id == made.request_id
    assert done.result is not None
    assert done.result.video_url == done.result.mask_url
    assert done.result.report["frames_out"] == 25
    assert http.get(done.result.video_url).content == (drawn / "good.mp4").read_bytes()


def test_run_holds_the_connection(
    sdk: BriaSyncClient, service: Running, good: str, drawn: Path
) -> None:
    with sdk, ThreadPoolExecutor() as threads:
        held = threads.submit(sdk.run, ENDPOINT, {"video": good}, raise_for_status=True)
        queued = "select id from jobs where status = 'queued'"
        (row,) = wait_until(lambda: service.sql(queued))
        asyncio.run(complete(service, str(row["id"]), drawn / "good.mp4"))
        done = held.result()
    assert done.status == Status.COMPLETED
    assert done.result is not None
    assert http.head(done.result.video_url).status_code == 200


def test_nine_presets(sdk: BriaSyncClient, service: Running, drawn: Path, tmp_path: Path) -> None:
    with working(service, tmp_path), sdk:
        url = sdk.upload(drawn / "good.mp4", "video/mp4")
        made = {
            preset: sdk.submit(ENDPOINT, {"video": url, "output_container_and_codec": preset})
            for preset in Preset
        }
        for preset, submitted in made.items():
            done = sdk.poll(submitted, interval=0.2, timeout=int(PATIENCE_S))
            assert done.result is not None, done
            assert done.result.report["frames_out"] == 10
            answer = http.get(done.result.video_url)
            assert answer.headers["content-type"] == MEDIA_TYPES[preset.suffix]


async def test_a_webhook_has_the_bytes_of_the_status_and_its_links_live_as_long(
    service: Running, drawn: Path, tmp_path: Path
) -> None:
    async with listening() as inbox:
        inbox.answers["/hook"] = gives(b"")
        with working(service, tmp_path):
            async with BriaAsyncClient(base_url=service.url, api_token=service.token) as client:
                url = await client.upload(drawn / "good.mp4", "video/mp4")
                body = {"video": url, "webhook_url": inbox.url("/hook")}
                made = await client.submit(ENDPOINT, body, raise_for_status=True)
                await client.poll(made, interval=0.1, timeout=PATIENCE_S)
            await asyncio.to_thread(wait_until, lambda: inbox.requests)
        hook = inbox.requests[0]
    verify: Callable[..., bool] = verify_webhook_signature
    signed = [hook.headers[f"bria-webhook-{name}"] for name in ("id", "timestamp", "signature")]
    assert verify(hook.body, *signed, service.token)
    read = await asyncio.to_thread(http.get, str(made.status_url), headers=service.headers)
    link = re.compile(rb'[?]expires=(\d+)[^"]*')  # the hour may have turned
    assert link.sub(b"", hook.body) == link.sub(b"", read.content)
    ends_s = [int(link.findall(each)[0]) for each in (hook.body, read.content)]
    assert abs(ends_s[0] - ends_s[1]) <= 3600
    answer = await asyncio.to_thread(http.get, json.loads(hook.body)["result"]["video_url"])
    assert len(answer.content) == int(answer.headers["content-length"]) > 0


def test_a_long_clip_a_wrong_token_and_an_unknown_request_have_their_codes(
    sdk: BriaSyncClient, service: Running, clip_origin: str
) -> None:
    with BriaSyncClient(base_url=service.url, api_token="wrong") as client:
        refused = client.submit(ENDPOINT, {"video": "http://example.com/a.mp4"})
        assert refused.error is not None
        assert (refused.error.code, refused.error.message) == (403, "Forbidden")
    with sdk:
        with pytest.raises(BriaException) as raised:
            sdk.submit(ENDPOINT, {"video": f"{clip_origin}/long.mp4"}, raise_for_status=True)
        assert (raised.value.code, raised.value.message) == (400, "Bad Request")
        assert "60" in str(raised.value.details)
        unknown: BriaResponse = sdk.get("status/unknown")
        assert unknown.error is not None
        assert unknown.error.code == 404
        # The vendor's document requires the status NOT_FOUND; this SDK knows no such word, and then
        # names the request that was asked for.
        assert unknown.request_id == "unknown"


def test_a_429_reaches_the_caller(service: Running, good: str) -> None:
    token = service.new_token(TokenLimits(rate_per_minute=12, burst=1))["api_token"]
    with BriaSyncClient(base_url=service.url, api_token=token, retry=Retry(total=3)) as client:
        assert client.submit(ENDPOINT, {"video": good}).error is None
        again = client.submit(ENDPOINT, {"video": good})  # a POST is not retried
        assert again.error is not None
        assert again.error.code == 429
        assert 1 <= int(again.headers["retry-after"]) <= 6


def called(service: Running, tool: str, **arguments: object) -> tuple[bool, str]:
    """Call a tool of `bria-mcp`; return whether it failed, and its text."""
    program = str(Path(sys.executable).with_name("bria-mcp"))
    known = {"BRIA_BASE_URL": service.url, "BRIA_API_TOKEN": service.token}

    async def call() -> CallToolResult:
        async with Client(StdioServerParameters(command=program, env=known)) as server:
            return await server.call_tool(tool, arguments)

    answer = asyncio.run(call())
    (text,) = answer.content
    assert isinstance(text, TextContent)
    return answer.is_error, text.text


@pytest.mark.slow
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


@pytest.mark.slow
def test_video_mask_by_prompt_says_what_the_operator_can_add(service: Running) -> None:
    clip = "http://example.com/clip.mp4"
    failed, text = called(service, "video_mask_by_prompt", video=clip, prompt="the dog")
    assert failed
    assert "Bria API error 422: This server follows no words and has no trackers." in text

"""Steps are run with what they were given, as on a machine that reaches no database."""

import uuid
from pathlib import Path
from typing import Any

from foremask.fetch.client import Outbound
from foremask.options import JobSpec
from foremask.service.jobs.steps import (
    WHOLE_CLIP,
    IngestDone,
    JobClip,
    MaskDone,
    PartDone,
    Step,
    StepDone,
    StoredSegment,
)
from foremask.service.storage.objects import open_objects
from foremask.service.worker.job_stages import Given, RunningStep, StepContext, StepProgress
from tests.service.worker import stand_in
from tests.service.worker.conftest import LOOPBACK, Site
from tests.service.worker.stand_in import TextMedia

FRAMES = 35
TOKEN = uuid.uuid4()


class Node:
    """Runs steps of one job, and notes what they ask it to reserve."""

    def __init__(self, work: StepContext, url: str) -> None:
        self.work, self.url = work, url
        self.reserved: list[tuple[int, int]] = []

    async def run(self, stage: str, given: Given = Given(), **known: Any) -> StepDone:  # noqa: ANN401, B008
        usual: dict[str, Any] = {
            "number": 0,
            "args": StoredSegment(),
            "source_key": None,
            "clip": None,
        }
        step = Step(
            job="job", stage=stage, token=TOKEN, attempt=1, spec=JobSpec(), video_url=self.url,
            mask_key=None, background_url=None, background_key=None, network_key=None,
            key_points=0, traceparent=None, used_s=0.0, **usual | known,
        )  # fmt: skip
        scratch = self.work.scratch / f"{stage}-{step.number}"
        return await RunningStep(self.work, step, scratch, StepProgress(), self.reserve).run(given)

    async def reserve(self, size: int, optional: int) -> bool:
        self.reserved.append((size, optional))
        return True


async def test_a_clip_is_cut_masked_and_joined_with_what_each_step_is_given(
    site: Site, tmp_path: Path
) -> None:
    objects = await open_objects((tmp_path / "objects").as_uri(), "http://127.0.0.1:1")
    media = TextMedia()
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    async with Outbound(allow_private=LOOPBACK) as outbound:
        work = StepContext(
            objects=objects, outbound=outbound, masks=media, files=media, scratch=scratch
        )
        node = Node(work, site.clip(FRAMES))
        ingested = await node.run("ingest", Given(free_slots=4))
        assert isinstance(ingested, IngestDone)
        assert len(ingested.segments) == 4
        known: dict[str, Any] = {"source_key": ingested.source_key, "clip": JobClip(frames=FRAMES)}
        parts: list[PartDone] = []
        for number, args in enumerate(ingested.segments):
            part = await node.run("segment", number=number, args=args, **known)
            assert isinstance(part, PartDone)
            parts.append(part)
        assert node.reserved == []
        joined = await node.run("join", Given(results=parts), **known)
        assert isinstance(joined, MaskDone)
        await objects.get(joined.result_key, tmp_path / "mask")
    assert (tmp_path / "mask").read_bytes() == stand_in.mask(FRAMES)
    assert joined.report.segments == 4
    assert node.reserved == [(len(stand_in.mask(FRAMES)), 0)]


async def test_a_clip_stays_whole_where_one_slot_is_free(site: Site, tmp_path: Path) -> None:
    objects = await open_objects((tmp_path / "objects").as_uri(), "http://127.0.0.1:1")
    media = TextMedia()
    async with Outbound(allow_private=LOOPBACK) as outbound:
        work = StepContext(
            objects=objects, outbound=outbound, masks=media, files=media, scratch=tmp_path
        )
        ingested = await Node(work, site.clip(FRAMES)).run("ingest", Given(free_slots=1))
    assert isinstance(ingested, IngestDone)
    assert ingested.segments == WHOLE_CLIP

import asyncio
import random
import sys
from fractions import Fraction
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from foremask.errors import ClipRefused, ModelUnavailable, ServiceUnavailable
from foremask.facts import SegmentPlan
from foremask.media.verify import verify
from foremask.options import (
    Device,
    Files,
    Form,
    JobSpec,
    Limits,
    Matte,
    Quality,
    Resources,
    ResultKind,
    unfinished_cache,
)
from foremask.service.sandbox.messages import (
    ChildProgress,
    Cut,
    Load,
    Make,
    Probe,
    ProbeBackground,
)
from foremask.service.sandbox.pool import MediaPool
from foremask.settings import Sandbox
from foremask.vision.network.kept_results import opened_store
from foremask.vision.network.session import Session
from foremask.weights.catalogue import compiled_dir_of, files_of, model_path, sha256_of
from tests.support import networks, synth
from tests.support.patience import running
from tests.support.programs import environ_with, ran

pytestmark = pytest.mark.slow

LIMITS = Limits()

confined = partial(MediaPool, sandbox=Sandbox.REQUIRE)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return synth.write(tmp_path / "clip.mp4", synth.Spec(pts=synth.even(4, Fraction(30))))


async def test_a_full_disk_is_a_store_that_is_away(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foremask.service.sandbox.pool.FILE_BYTES", 1000)
    request = Cut(clip, SegmentPlan(0, None), tmp_path / "job" / "cut.mov")
    async with confined(tmp_path / "slots") as pool:
        with pytest.raises(ServiceUnavailable, match="File too large"):
            await pool.run(request)


@pytest.mark.weights
@pytest.mark.parametrize("variables", [(), ("OPENBLAS_L2_SIZE", "2048")])
async def test_the_network_masks_in_the_sandbox_as_it_does_outside(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: tuple[str, ...]
) -> None:
    """To the byte, whatever kernels the environment asks for (docs/adr/0041)."""
    if variables:
        monkeypatch.setenv(*variables)
    model, outside, inside = model_path(), tmp_path / "outside.mp4", tmp_path / "job" / "inside.mp4"
    reported: list[ChildProgress] = []

    async def note(progress: ChildProgress) -> None:
        reported.append(progress)

    make = Make(
        JobSpec(quality=Quality.FAST),
        Files(source=clip, target=inside),
        Resources(model=model, limits=LIMITS),
    )
    async with confined(tmp_path / "slots", readable=[model.parent]) as pool:
        report = await pool.run(make, on_progress=note)
    assert (report.frames_in, report.frames_out) == (4, 4)
    words = "-m", "foremask", "mask", clip, "-o", outside, "--quality", "fast"
    await asyncio.to_thread(ran, sys.executable, *words, env=environ_with())
    assert report.sha256 == sha256_of(outside)
    assert reported
    pictures = [progress.newest_png for progress in reported if progress.newest_png]
    newest = cv2.imdecode(np.frombuffer(pictures[-1], np.uint8), cv2.IMREAD_UNCHANGED)
    assert newest is not None
    assert (newest.ndim, max(newest.shape)) == (2, 64)
    assert newest.max() > 200 > 50 > newest.min()


@pytest.mark.weights
async def test_of_a_run_that_is_stopped_the_networks_results_come_out(tmp_path: Path) -> None:
    """Those of frames whose masks are decided, and the features of the others."""
    clip = synth.write(tmp_path / "clip.mp4", synth.Spec(pts=synth.even(200, Fraction(30))))
    model, cache = model_path(), tmp_path / "job" / "network.zip"
    files = Files(source=clip, target=tmp_path / "job" / "mask.mp4", cache=cache)
    make = Make(JobSpec(), files, Resources(model=model, limits=LIMITS))
    has_begun = asyncio.Event()

    async def note(progress: ChildProgress) -> None:
        if progress.frames_done >= 20:
            has_begun.set()

    async with confined(tmp_path / "slots", readable=[model.parent]) as pool:
        async with running(pool.run(make, on_progress=note)):
            await has_begun.wait()
        assert not files.target.exists()
        for kept in (cache, unfinished_cache(cache)):
            archive, _ = opened_store(kept)
            assert archive is not None
            with archive:
                assert archive.namelist(), kept


@pytest.mark.weights
async def test_a_cut_out_over_a_video_is_made_in_the_sandbox(clip: Path, tmp_path: Path) -> None:
    behind = synth.write(tmp_path / "behind.mp4", synth.Spec(pts=synth.even(2, Fraction(15))))
    model, target = model_path(), tmp_path / "job" / "made.webm"
    spec = JobSpec(
        kind=ResultKind.COMPOSITE,
        form=Form.WEBM_VP9,
        quality=Quality.BEST,
        matte=Matte(feather_px=2.0),
    )
    files = Files(source=clip, target=target, background=behind)
    async with confined(tmp_path / "slots", readable=[model.parent]) as pool:
        await pool.run(ProbeBackground(behind, LIMITS))
        report = await pool.run(Make(spec, files, Resources(model=model, limits=LIMITS)))
    assert (report.kind, report.frames_out) == ("composite", 4)
    verify(clip, target, ResultKind.COMPOSITE)


async def test_mutated_clips_are_taken_or_refused(clip: Path, tmp_path: Path) -> None:
    """benchmarks/endurance/hostile.py has thousands."""
    dice = random.Random(7)  # noqa: S311
    outcomes = set()
    whole = await asyncio.to_thread(clip.read_bytes)
    async with confined(tmp_path / "slots") as pool:
        for _ in range(12):
            data = bytearray(whole)
            for _ in range(dice.choice((1, 4, 64))):
                data[dice.randrange(len(data) - 900, len(data))] = dice.randrange(256)

            async def read_at(offset: int, size: int, data: bytes = bytes(data)) -> bytes:
                return data[offset : offset + size]

            try:
                await pool.run(Probe(None, LIMITS, size=len(data)), read_at=read_at)
            except ClipRefused:
                outcomes.add("refused")
            else:
                outcomes.add("taken")
    assert outcomes == {"taken", "refused"}


@pytest.mark.weights
async def test_a_child_runs_the_compiled_network_without_the_weights(tmp_path: Path) -> None:
    isnet = networks.isnet(tmp_path / "models")
    networks.copy_compiled(model_path(), isnet)
    Session(isnet, kept_in=compiled_dir_of(isnet))  # compiles it, if it was not compiled before
    kept = [isnet.parent / "compiled"]
    async with confined(tmp_path / "kept", readable=kept) as pool:
        await pool.run(Load(isnet, Device()))
    async with confined(tmp_path / "none") as pool:
        with pytest.raises(ModelUnavailable):
            await pool.run(Load(isnet, Device()))


@pytest.mark.weights
@pytest.mark.parametrize("sandbox", [Sandbox.REQUIRE, Sandbox.OFF])
async def test_a_child_keeps_nothing_that_it_compiles(
    clip: Path, tmp_path: Path, sandbox: Sandbox
) -> None:
    weights = networks.isnet(tmp_path / "models")
    directory = tmp_path / "models" / "compiled"
    directory.mkdir()
    files = Files(source=clip, target=tmp_path / "job" / "mask.mp4")
    make = Make(JobSpec(quality=Quality.FAST), files, Resources(model=weights))
    readable = files_of(weights)
    async with confined(tmp_path / "slots", sandbox=sandbox, readable=readable) as pool:
        report = await pool.run(make)
    assert report.frames_out == 4
    assert list(directory.iterdir()) == []

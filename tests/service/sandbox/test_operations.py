"""The library's functions, as the service calls them: by typed requests, in a confined child."""

import asyncio
import os
import random
import sys
from collections.abc import AsyncGenerator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from foremask.errors import ClipRefused, ForemaskError, ModelUnavailable, ServiceUnavailable
from foremask.facts import SegmentGrid, SegmentPlan
from foremask.media.probe import probe
from foremask.media.verify import verify
from foremask.options import (
    Device,
    Limits,
    MaskOptions,
    Matte,
    Preset,
    Quality,
    ResultKind,
    ResultOptions,
)
from foremask.service.sandbox.messages import (
    Cut,
    CutOut,
    Load,
    Mask,
    Plan,
    Probe,
    ProbeBackground,
    Progress,
)
from foremask.service.sandbox.pool import MediaPool
from foremask.service.worker.process import readable_of
from foremask.settings import Sandbox
from foremask.vision.network.compiled_networks import CompiledNetworks
from foremask.vision.network.session import Session
from foremask.weights.catalogue import compiled_dir_of, model_path, sha256_of
from tests.support import networks, synth

pytestmark = pytest.mark.slow

LIMITS = Limits()


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncGenerator[MediaPool]:
    async with MediaPool(tmp_path / "slots", sandbox=Sandbox.REQUIRE) as opened:
        yield opened


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return synth.write(
        tmp_path / "clip.mp4",
        synth.Spec(pts=tuple(range(0, 90_000, 3_000)), last_duration=3_000, keyframe_every=10),
    )


async def test_a_remote_file_is_probed_as_a_local_one(pool: MediaPool, clip: Path) -> None:
    data = await asyncio.to_thread(clip.read_bytes)

    async def read_at(offset: int, size: int) -> bytes:
        return data[offset : offset + size]

    near = await pool.run(Probe(clip, LIMITS, Preset.GIF))
    assert near == probe(clip)
    assert near == await pool.run(Probe(None, LIMITS, size=len(data)), read_at=read_at)


async def test_spans_are_planned_and_cut(pool: MediaPool, clip: Path, tmp_path: Path) -> None:
    spans = await pool.run(Plan(clip, 3, SegmentGrid(10, 3, 10)))
    assert spans == (
        SegmentPlan(0, 30_000, None, 39_000, 0, None),
        SegmentPlan(30_000, 60_000, 21_000, 69_000, 0, None),
        SegmentPlan(60_000, None, 51_000, None, 30_000, None),
    )
    target = tmp_path / "job" / "1.mov"
    await pool.run(Cut(clip, spans[1], target))
    assert (await pool.run(Probe(target, LIMITS))).codec == "h264"


async def test_a_full_disk_is_a_store_that_is_away(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is retried, since neither our code nor the clip is at fault."""
    monkeypatch.setattr("foremask.service.sandbox.pool.FILE_BYTES", 1000)
    request = Cut(clip, SegmentPlan(0, None), tmp_path / "job" / "cut.mov")
    async with MediaPool(tmp_path / "slots", sandbox=Sandbox.REQUIRE) as pool:
        with pytest.raises(ServiceUnavailable, match="File too large"):
            await pool.run(request)


async def _masked_by_the_command_line(clip: Path, target: Path) -> str:
    """The checksum of what ``foremask mask`` makes: it sets BLAS's threads as the child does."""
    words = ("-m", "foremask", "mask", str(clip), "-o", str(target), "--quality", "fast")
    environ = {name: text for name, text in os.environ.items() if not name.startswith("FOREMASK_")}
    masking = await asyncio.create_subprocess_exec(sys.executable, *words, env=environ)
    assert await masking.wait() == 0
    return await asyncio.to_thread(sha256_of, target)


@pytest.mark.weights
@pytest.mark.parametrize("variables", [(), ("OPENBLAS_L2_SIZE", "2048")])
async def test_the_network_masks_in_the_sandbox_as_it_does_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: tuple[str, ...]
) -> None:
    """The model loads under all the rules, and the mask is the same to the byte.

    Whatever kernels are asked for: both have the same numerics variables (docs/adr/0041).
    """
    if variables:
        monkeypatch.setenv(*variables)
    clip = synth.write(tmp_path / "short.mp4", synth.Spec(pts=synth.even(4, Fraction(30))))
    model, outside, inside = model_path(), tmp_path / "outside.mp4", tmp_path / "job" / "inside.mp4"
    reported: list[Progress] = []

    async def note(progress: Progress) -> None:
        reported.append(progress)

    async with MediaPool(
        tmp_path / "slots", sandbox=Sandbox.REQUIRE, readable=[model.parent]
    ) as pool:
        report = await pool.run(
            Mask(clip, inside, MaskOptions(quality=Quality.FAST, model=model, limits=LIMITS)),
            on_progress=note,
        )
    assert (report.frames_in, report.frames_out) == (4, 4)
    assert report.sha256 == await _masked_by_the_command_line(clip, outside)
    assert reported
    pictures = [progress.newest_png for progress in reported if progress.newest_png]
    newest = cv2.imdecode(np.frombuffer(pictures[-1], np.uint8), cv2.IMREAD_UNCHANGED)
    assert newest is not None
    assert newest.ndim == 2
    assert max(newest.shape) <= 320
    assert newest.max() > 200 > 50 > newest.min()


@pytest.mark.weights
async def test_a_cut_out_over_a_video_is_made_in_the_sandbox(tmp_path: Path) -> None:
    clip = synth.write(tmp_path / "short.mp4", synth.Spec(pts=synth.even(4, Fraction(30))))
    behind = synth.write(tmp_path / "behind.mp4", synth.Spec(pts=synth.even(2, Fraction(15))))
    model, target = model_path(), tmp_path / "job" / "made.webm"
    result = ResultOptions(kind=ResultKind.COMPOSITE, matte=Matte(feather_px=2.0))
    options = MaskOptions(quality=Quality.BEST, model=model, limits=LIMITS)
    async with MediaPool(
        tmp_path / "slots", sandbox=Sandbox.REQUIRE, readable=[model.parent]
    ) as pool:
        await pool.run(ProbeBackground(behind, LIMITS))
        report = await pool.run(CutOut(clip, target, "webm_vp9", options, result, behind))
    assert (report.kind, report.frames_out) == ("composite", 4)
    verify(clip, target, ResultKind.COMPOSITE)


async def probed(pool: MediaPool, data: bytes) -> str:

    async def read_at(offset: int, size: int) -> bytes:
        return data[offset : offset + size]

    try:
        await pool.run(Probe(None, LIMITS, size=len(data)), read_at=read_at, wall_clock_s=60)
    except ForemaskError as error:
        return error.reason
    return "taken"


async def test_mutated_clips_are_taken_or_refused(pool: MediaPool, tmp_path: Path) -> None:
    """benchmarks/endurance/hostile.py has thousands."""
    dice = random.Random(7)  # noqa: S311
    whole = synth.write(tmp_path / "clip.mp4").read_bytes()
    reasons = {kind.reason for kind in ClipRefused.__subclasses__()} | {"taken"}
    for _ in range(12):
        data = bytearray(whole)
        for _ in range(dice.choice((1, 4, 64))):
            data[dice.randrange(len(data) - 900, len(data))] = dice.randrange(256)
        assert await probed(pool, bytes(data)) in reasons


# A confined child and the compiled networks: it runs them, and keeps none.

FULL = (1024, 1024)


@pytest.fixture(scope="module")
def isnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = networks.isnet(tmp_path_factory.mktemp("models"))
    Session(path, kept_in=compiled_dir_of(path))
    return path


@pytest.mark.weights
async def test_a_child_runs_what_is_kept(tmp_path: Path, isnet: Path) -> None:
    kept, nothing = [isnet.parent / "compiled"], list[Path]()
    for readable, name in ((kept, "kept"), (nothing, "nothing")):
        async with MediaPool(tmp_path / name, sandbox=Sandbox.REQUIRE, readable=readable) as pool:
            if readable:
                await pool.run(Load(isnet, Device()))
            else:
                with pytest.raises(ModelUnavailable):
                    await pool.run(Load(isnet, Device()))


@pytest.mark.weights
@pytest.mark.parametrize("sandbox", [Sandbox.REQUIRE, Sandbox.OFF])
async def test_a_child_keeps_nothing_that_it_compiles(tmp_path: Path, sandbox: Sandbox) -> None:
    weights = networks.isnet(tmp_path / "models")
    directory = tmp_path / "models" / "compiled"
    directory.mkdir()
    clip = synth.write(tmp_path / "short.mp4", synth.Spec(pts=synth.even(2, Fraction(30))))
    options = MaskOptions(quality=Quality.FAST, model=weights)
    async with MediaPool(
        tmp_path / "slots", sandbox=sandbox, readable=readable_of(weights)
    ) as pool:
        report = await pool.run(Mask(clip, tmp_path / "job" / "mask.mp4", options))
    assert report.frames_out == 2
    assert list(directory.iterdir()) == []
    assert CompiledNetworks(directory, weights).read(FULL) is None

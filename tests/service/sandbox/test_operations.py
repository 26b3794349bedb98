"""The library's functions, as the service calls them: in a confined child, by plain values."""

import asyncio
import os
import sys
from collections.abc import AsyncGenerator
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import pytest

from foremask.errors import DurationTooLong, Internal, PresetUnsuitable, ServiceUnavailable
from foremask.options import Limits
from foremask.service.sandbox.messages import Progress
from foremask.service.sandbox.pool import MediaPool
from foremask.service.settings import Sandbox
from foremask.weights.catalogue import model_path, sha256_of
from tests.support import synth

LIMITS = asdict(Limits())


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncGenerator[MediaPool]:
    async with MediaPool(tmp_path / "slots", sandbox=Sandbox.REQUIRE) as opened:
        yield opened


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Three seconds at ten frames a second, with a keyframe each second."""
    return synth.write(
        tmp_path / "clip.mp4",
        synth.Spec(pts=tuple(range(0, 90_000, 3_000)), last_duration=3_000, keyframe_every=10),
    )


async def test_a_file_is_probed(pool: MediaPool, clip: Path) -> None:
    """The clip's facts come back as plain values."""
    facts = await pool.run(
        "probe", {"source": str(clip), "limits": LIMITS, "preset": "gif"}, read_paths=[clip]
    )
    assert (facts["container"], facts["codec"], facts["frames"]) == ("mp4", "h264", 30)
    assert (facts["width"], facts["height"], facts["time_base"]) == (64, 48, [1, 30_000])


async def test_a_remote_file_is_probed_by_the_same_words(pool: MediaPool, clip: Path) -> None:
    """Bytes that only the parent can reach give the same facts as the file."""
    data = await asyncio.to_thread(clip.read_bytes)

    async def read_at(offset: int, size: int) -> bytes:
        return data[offset : offset + size]

    near = await pool.run("probe", {"source": str(clip), "limits": LIMITS}, read_paths=[clip])
    far = await pool.run("probe", {"size": len(data), "limits": LIMITS}, read_at=read_at)
    assert far == near


async def test_a_limit_is_told_across_the_border(pool: MediaPool, clip: Path) -> None:
    """The numbers that clash arrive with the error."""
    limits = LIMITS | {"max_duration_s": 1.0}
    with pytest.raises(DurationTooLong) as caught:
        await pool.run("probe", {"source": str(clip), "limits": limits}, read_paths=[clip])
    assert (caught.value.limit, caught.value.actual) == (1.0, 3.0)


async def test_the_bytes_needed_and_there_are_told_across_the_border(
    pool: MediaPool, clip: Path
) -> None:
    """What a mask may take is said by the parent, for the child sees no more than its own files."""
    limits = LIMITS | {"memory_bytes": 100_000}
    args = {"source": str(clip), "limits": limits, "preset": "webm_vp9"}
    with pytest.raises(PresetUnsuitable, match="need 245760 bytes") as caught:
        await pool.run("probe", args, read_paths=[clip])
    assert (caught.value.limit, caught.value.actual) == (100_000, 64 * 48 * 80)


async def test_spans_are_planned_and_cut(pool: MediaPool, clip: Path, tmp_path: Path) -> None:
    """Three spans of a second; each cut is a clip of its own, where the caller wants it."""
    spans = await pool.run("plan", {"source": str(clip), "target_s": 1.0}, read_paths=[clip])
    assert spans == [
        {"first_pts": 0, "end_pts": 30_000, "copy_from_pts": 0, "copy_until_pts": 60_000},
        {"first_pts": 30_000, "end_pts": 60_000, "copy_from_pts": 0, "copy_until_pts": None},
        {"first_pts": 60_000, "end_pts": None, "copy_from_pts": 30_000, "copy_until_pts": None},
    ]
    target = tmp_path / "job" / "1.mov"
    await pool.run(
        "cut",
        {"source": str(clip), "span": spans[1], "target": str(target)},
        read_paths=[clip],
        scratch=tmp_path / "job",
    )
    assert (
        await pool.run("probe", {"source": str(target), "limits": LIMITS}, read_paths=[target])
    )["codec"] == "h264"


async def test_a_full_disk_is_a_store_that_is_away(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody's fault, and worth another go: not a blunder of ours, and not the clip's."""
    monkeypatch.setattr("foremask.service.sandbox.child_process.FILE_BYTES", 1000)
    args = {
        "source": str(clip),
        "span": {"first_pts": 0, "end_pts": None},
        "target": str(tmp_path / "job" / "cut.mov"),
    }
    async with MediaPool(tmp_path / "slots", sandbox=Sandbox.REQUIRE) as pool:
        with pytest.raises(ServiceUnavailable, match="File too large"):
            await pool.run("cut", args, read_paths=[clip], scratch=tmp_path / "job")


async def test_an_unknown_argument_is_our_mistake(pool: MediaPool, clip: Path) -> None:
    """A misspelt argument is not silently a default."""
    with pytest.raises(Internal):
        await pool.run("plan", {"source": str(clip), "target": 1.0}, read_paths=[clip])


async def _masked_by_the_command_line(clip: Path, target: Path) -> str:
    """The checksum of what ``foremask mask`` makes: it sets BLAS's threads as the child does."""
    words = ("-m", "foremask", "mask", str(clip), str(target), "--quality", "fast")
    environ = {name: text for name, text in os.environ.items() if not name.startswith("FOREMASK_")}
    masking = await asyncio.create_subprocess_exec(sys.executable, *words, env=environ)
    assert await masking.wait() == 0
    return await asyncio.to_thread(sha256_of, target)


@pytest.mark.weights
async def test_the_network_masks_in_the_sandbox_as_it_does_outside(
    tmp_path: Path,
) -> None:
    """The model loads under all the rules, and the mask is the same to the byte."""
    clip = synth.write(tmp_path / "short.mp4")
    model, outside, inside = model_path(), tmp_path / "outside.mp4", tmp_path / "job" / "inside.mp4"
    reported: list[Progress] = []

    async def note(progress: Progress) -> None:
        reported.append(progress)

    async with MediaPool(
        tmp_path / "slots", sandbox=Sandbox.REQUIRE, readable=[model.parent]
    ) as pool:
        report = await pool.run(
            "mask",
            {
                "source": str(clip),
                "target": str(inside),
                "options": {"quality": "fast", "model": str(model), "limits": LIMITS},
                "span": None,
            },
            read_paths=[clip],
            scratch=tmp_path / "job",
            on_progress=note,
        )
    assert (report["frames_in"], report["frames_out"]) == (10, 10)
    assert report["sha256"] == await _masked_by_the_command_line(clip, outside)
    assert reported
    assert all(progress.frames_total == 10 for progress in reported)


@pytest.mark.weights
@pytest.mark.parametrize(
    "variable",
    ["OPENBLAS_CORETYPE=Haswell", "OPENBLAS_L2_SIZE=256", "OPENBLAS_L2_SIZE=2048"],
)
async def test_a_mask_is_the_same_inside_and_outside_whatever_kernels_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """The command line and the child have the same environment, as far as numbers go: docs/adr/0100."""
    monkeypatch.setenv(*variable.split("="))
    clip = synth.write(tmp_path / "short.mp4", synth.Spec(pts=synth.even(4, Fraction(30))))
    model, outside, inside = model_path(), tmp_path / "outside.mp4", tmp_path / "job" / "inside.mp4"
    async with MediaPool(
        tmp_path / "slots", sandbox=Sandbox.REQUIRE, readable=[model.parent]
    ) as pool:
        report = await pool.run(
            "mask",
            {
                "source": str(clip),
                "target": str(inside),
                "options": {"quality": "fast", "model": str(model), "limits": LIMITS},
                "span": None,
            },
            read_paths=[clip],
            scratch=tmp_path / "job",
        )
    assert report["sha256"] == await _masked_by_the_command_line(clip, outside)

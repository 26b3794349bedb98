from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import foremask
from foremask.masking.runner import run
from foremask.options import Files, JobSpec, Resources
from foremask.pipeline.build import checked_clip, opened_masking
from foremask.pipeline.stage_list import Pipeline
from foremask.pipeline.values import MaskedFrame
from tests.support import synth

ROOT = Path(__file__).parents[2]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return synth.write(tmp_path / "clip.mp4", synth.Spec(width=128, height=96))


def test_the_architecture_shows_the_list_of_a_clip(clip: Path, model: Path) -> None:
    spec, resources = JobSpec(), Resources(model=model)
    facts = checked_clip(clip, spec, resources.limits)
    with opened_masking(spec, clip, facts, resources) as masking:
        drawn = f"```text\n{masking.pipeline}\n```"
    assert drawn in (ROOT / "docs/architecture.md").read_text(encoding="utf-8")


def test_each_stage_is_in_the_file_of_its_name(clip: Path, model: Path) -> None:
    stages = ROOT / "src/foremask/pipeline/stages"
    with foremask.pipeline_for(clip, model=model) as pipeline:
        assert all((stages / f"{name}.py").is_file() for name in pipeline.names)


class Inverted:
    name = "inverted"

    def __call__(self, masked: Iterator[MaskedFrame], /) -> Iterator[MaskedFrame]:
        for frame, mask in masked:
            yield MaskedFrame(frame, 255 - mask)


def inverted(pipeline: Pipeline) -> Pipeline:
    return pipeline.after("edges", Inverted())


def test_a_stage_of_a_user_changes_the_masks_and_is_in_the_report(
    clip: Path, model: Path, tmp_path: Path
) -> None:
    plain, other = tmp_path / "plain.mkv", tmp_path / "other.mkv"
    foremask.mask_video(clip, plain, model=model)
    report = foremask.mask_video(clip, other, model=model, change=inverted)
    for (_, before), (_, after) in zip(
        foremask.read_masks(plain), foremask.read_masks(other), strict=True
    ):
        np.testing.assert_allclose(after, 1 - before, atol=0.06)
    names = [each.stage for each in report.pipeline]
    assert names[-3:] == ["edges", "inverted", "encode"]


def test_the_pipeline_of_a_clip_runs_without_a_file(clip: Path, model: Path) -> None:
    with (
        foremask.pipeline_for(clip, model=model, end_s=0.2) as pipeline,
        inverted(pipeline).running() as masked,
    ):
        frames = [(frame.index, mask.shape) for frame, mask in masked]
    assert frames == [(number, (96, 128)) for number in range(6)]


class Broken(Inverted):
    name = "broken"

    def __call__(self, masked: Iterator[MaskedFrame], /) -> Iterator[MaskedFrame]:
        for frame, mask in masked:
            yield MaskedFrame(frame, mask)
            raise ZeroDivisionError


def test_an_error_in_a_stage_of_a_user_names_it_and_leaves_no_file(
    clip: Path, model: Path, tmp_path: Path
) -> None:
    files = Files(source=clip, target=tmp_path / "mask.mp4")
    with pytest.raises(ZeroDivisionError) as caught:
        run(
            JobSpec(),
            files,
            resources=Resources(model=model),
            change=lambda pipeline: pipeline.after("edges", Broken()),
        )
    assert caught.value.__notes__ == ["in the stage 'broken' of the pipeline"]
    assert [each.name for each in tmp_path.iterdir()] == ["clip.mp4"]

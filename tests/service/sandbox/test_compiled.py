"""A confined child and the compiled networks: it runs them, and keeps none."""

from fractions import Fraction
from pathlib import Path

import pytest

from foremask.errors import ModelUnavailable
from foremask.options import Device, MaskOptions, Quality
from foremask.service.sandbox.messages import Load, Mask
from foremask.service.sandbox.pool import MediaPool
from foremask.service.worker.process import readable_of
from foremask.settings import Sandbox
from foremask.vision.network.compiled_networks import CompiledNetworks
from foremask.vision.network.session import Session
from foremask.weights.catalogue import ISNET, compiled_dir_of, model_path
from tests.support import synth

pytestmark = pytest.mark.slow

FULL = (1024, 1024)


@pytest.fixture(scope="module")
def isnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / ISNET.file_name
    path.symlink_to(model_path())
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
async def test_a_child_keeps_nothing_that_it_compiles(
    tmp_path: Path, isnet: Path, sandbox: Sandbox
) -> None:
    weights = tmp_path / "models" / ISNET.file_name
    weights.parent.mkdir()
    weights.symlink_to(isnet)
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

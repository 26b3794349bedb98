from pathlib import Path
from shutil import copyfile

import cv2
import numpy as np
import pytest
from benchmarks.clips import frames_of

from foremask.vision.image import ArrayImage
from foremask.vision.network.reduction import before_enlargement, folded
from foremask.vision.network.session import Precision, Session, cpu_float
from foremask.weights.catalogue import model_path
from tests.pipeline.stages.test_network_masks import moving_disc
from tests.support.networks import reduced_isnet

SCENES = Path(__file__).parents[3] / "benchmarks/scenes"
RANDOM = np.random.default_rng(1)


def convolved(plane: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The sum over input channels of what each output channel's kernels give, with zeros around."""
    border = cv2.BORDER_CONSTANT
    return np.stack(
        [
            sum(
                cv2.filter2D(each, -1, kernel, borderType=border)
                for each, kernel in zip(plane, row, strict=True)
            )
            for row in weights
        ]
    )


def test_two_convolutions_without_activation_are_one_of_seven_by_seven() -> None:
    picture = RANDOM.normal(size=(3, 32, 40)).astype(np.float32)
    first = RANDOM.normal(size=(4, 3, 3, 3)).astype(np.float32)
    second = RANDOM.normal(size=(5, 4, 3, 3)).astype(np.float32)
    one_by_one = convolved(convolved(picture, first)[:, ::2, ::2].copy(), second)
    at_once = convolved(picture, folded(first, second))[:, ::2, ::2]
    np.testing.assert_allclose(at_once[:, 1:-1, 1:-1], one_by_one[:, 1:-1, 1:-1], atol=1e-3)


def test_taps_move_within_a_kernel() -> None:
    weights = np.arange(18, dtype=np.float32).reshape(1, 2, 3, 3)
    turned = before_enlargement(weights, np.eye(9, dtype=np.float32)[::-1])
    np.testing.assert_array_equal(turned, weights[:, :, ::-1, ::-1])


@pytest.mark.weights
@pytest.mark.parametrize("precision", [Precision.INT8, Precision(cpu_float())])
def test_the_pulled_weights_run_reduced_and_ones_own_whole(
    precision: Precision, tmp_path: Path
) -> None:
    own = copyfile(model_path(), tmp_path / "own.onnx")
    with own.open("ab") as file:
        file.write(b"\x12\x03own")  # ModelProto.producer_name, of 3 bytes
    reduced = reduced_isnet(precision)
    whole = Session(own, precision=precision)
    assert reduced.runtime == f"{whole.runtime} reduced"
    scene, _ = next(iter(moving_disc(1)))
    one, other = (session.infer(scene) for session in (reduced, whole))
    assert np.abs(one.alpha - other.alpha).mean() < 0.01
    for ours, theirs in zip(one.features, other.features, strict=True):
        assert (ours * theirs).sum() > 0.96 * np.linalg.norm(ours) * np.linalg.norm(theirs)


@pytest.mark.weights
def test_eight_bits_overflow_on_no_processor() -> None:
    """Without VNNI, sums of two products are cut at 16 bits, which once ruined masks."""
    *_, frame = frames_of(SCENES / "animal.webm")
    networks = [reduced_isnet(each) for each in (Precision.INT8, Precision.F32)]
    masks = [network.infer(ArrayImage(frame)).alpha for network in networks]
    assert masks[1].mean() > 0.05
    assert np.abs(masks[0] - masks[1]).mean() < 0.008

"""A floor under real clips: masks of four given sequences are as right as when this was written."""

from itertools import islice

import cv2
import numpy as np
import pytest
from benchmarks.clips import DATA, Clip
from benchmarks.quality.answers import Recorded, named
from benchmarks.quality.lessons import Take, coming_close, on_grid
from benchmarks.quality.scores import region_similarity, score
from benchmarks.quality.tiers import by_tier

from foremask.options import Quality
from foremask.vision.image import ArrayImage
from foremask.vision.network.session import Session, best_precision
from foremask.vision.temporal.tier import TIERS
from foremask.vision.temporal.windows import mask_images
from tests.support.networks import reduced_isnet

pytestmark = [pytest.mark.data, pytest.mark.weights, pytest.mark.slow]

SIZE = 427, 240
FRAMES = 16
MARGIN = 0.5
FLOORS = {
    "davis/dog": {"fast": (93.0, 95.9), "balanced": (92.6, 93.8)},
    "davis/parkour": {"fast": (86.4, 93.9), "balanced": (89.7, 97.7)},
    "more/dogs-jump": {"fast": (88.7, 92.6), "balanced": (90.9, 93.0)},
    "more/kite-walk": {"fast": (75.0, 79.0), "balanced": (82.3, 77.2)},
}
"""J and F of the first 16 frames at 427 x 240, before encoding, with 8 bits by AVX2.

The least of AVX2 and AVX-512 with VNNI, of 32 bits and bfloat16 beside the 8, and of OpenBLAS's
kernels with OPENBLAS_CORETYPE set and unset: their rounding alone moves kite-walk by 2 J. The trees
are fitted on whole clips, so a clip's start may lose: kite-walk's lost 6 J in ``fast`` when added
anchors got a price, and dogs-jump's 3 by flow without mean normalisation, and the whole clips
nothing and 0.6 J&F. These floors find what breaks,
`benchmarks.quality.folds` says what is better.
"""


@pytest.fixture(scope="module")
def session() -> Session:
    return reduced_isnet(best_precision(is_isnet=True))


@pytest.mark.parametrize("name", FLOORS)
def test_masks_of_real_clips_are_no_worse_than_they_were(name: str, session: Session) -> None:
    clip = Clip(DATA / name)
    if not clip.path.is_dir():
        pytest.skip(f"{clip.path} is not there: set FOREMASK_DATA")  # where CI is set, a failure
    images = named(ArrayImage(frame).rgb(*SIZE) for frame in islice(clip.frames(), FRAMES))
    truths = [
        np.asarray(cv2.resize(truth, SIZE, interpolation=cv2.INTER_AREA), np.float32)
        for truth in clip.truths()[:FRAMES]
    ]
    network = Recorded(lambda: session)
    for quality, (j, f) in FLOORS[name].items():
        found = score(by_tier(images, network, Quality(quality)), truths)
        assert found.j > j - MARGIN, quality
        assert found.f > f - MARGIN, quality


def test_a_dog_that_comes_close_stays_whole(session: Session) -> None:
    """The camera's motion once followed a subject that fills the picture: J fell to 40."""
    clip = Clip(DATA / "davis/dog")
    if not clip.path.is_dir():
        pytest.skip(f"{clip.path} is not there: set FOREMASK_DATA")  # where CI is set, a failure
    take = coming_close(Take(named(clip.frames()), clip.truths()), 1.6, blurred=False)
    masks = list(mask_images(take.images, session, TIERS[Quality.FAST]))
    rows, columns = masks[0].shape
    found = [
        region_similarity(mask > 0.5, on_grid((columns, rows), truth) > 0.5)
        for mask, truth in zip(masks, take.truths, strict=True)
    ]
    assert take.truths[-1].mean() > 0.5
    assert np.mean(found[-12:]) > 0.75

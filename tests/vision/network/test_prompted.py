"""The network that reads prompts, with IS-Net's real weights, on drawn discs."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from foremask.errors import ModelUnavailable
from foremask.types import Alpha, Image
from foremask.vision.image import ArrayImage
from foremask.vision.network.finder import Click, Unmoved, find_again, find_thing
from foremask.vision.network.prompted import PromptedNetwork, prompted_network
from foremask.weights.catalogue import model_path
from tests.support.networks import KnowsNoThing, redness

WIDTH, HEIGHT = 480, 270
LEFT, RIGHT = (150, 140), (340, 130)


def disc(x: int, y: int, radius: int = 46) -> np.ndarray:
    plane = np.zeros((HEIGHT, WIDTH), np.float32)
    cv2.circle(plane, (x, y), radius, 1, -1)
    return plane


def picture() -> ArrayImage:
    """A red ball and a blue ball, shaded, on a green ground."""
    ground = np.random.default_rng(1).normal(0, 6, (HEIGHT, WIDTH, 3))
    rgb = np.array([70, 110, 60]) + cv2.GaussianBlur(ground, (0, 0), 2)
    rows, columns = np.indices((HEIGHT, WIDTH))
    for (x, y), colour in ((LEFT, (210, 50, 40)), (RIGHT, (40, 70, 210))):
        light = 1.15 - 0.5 * np.hypot(columns - x + 14, rows - y + 14) / 60
        rgb = np.where(disc(x, y)[..., None] > 0, np.array(colour) * light[..., None], rgb)
    return ArrayImage(np.clip(rgb, 0, 255).astype(np.uint8))


def similarity(alpha: np.ndarray, truth: np.ndarray) -> float:
    found = alpha > 0.5
    return float((found & (truth > 0)).sum() / (found | (truth > 0)).sum())


@pytest.fixture(scope="module")
def network() -> PromptedNetwork:
    return prompted_network(model_path())


@pytest.mark.weights
def test_what_an_earlier_mask_shows_is_found_where_it_is_now(network: PromptedNetwork) -> None:
    x, y = LEFT
    earlier = disc(x + 16, y - 10)
    found = find_again(network, picture(), earlier)
    assert similarity(earlier, disc(x, y)) < 0.65
    assert similarity(found, disc(x, y)) > 0.9


@pytest.mark.weights
def test_what_has_moved_by_almost_half_its_width_is_found_again(
    network: PromptedNetwork,
) -> None:
    x, y = LEFT
    earlier = disc(x - 40, y + 8)
    assert similarity(earlier, disc(x, y)) < 0.4
    assert similarity(find_again(network, picture(), earlier), disc(x, y)) > 0.9


@pytest.mark.weights
def test_one_of_two_equal_things_is_found_alone(network: PromptedNetwork) -> None:
    found = find_again(network, picture(), disc(*RIGHT, radius=40))
    assert similarity(found, disc(*RIGHT)) > 0.9
    assert (found > 0.5)[disc(*LEFT) > 0].mean() < 0.02


@pytest.mark.weights
@pytest.mark.parametrize("inside", [True, False])
def test_a_click_adds_the_thing_that_it_is_on_or_takes_it_out(
    network: PromptedNetwork, *, inside: bool
) -> None:
    both = disc(*LEFT) + disc(*RIGHT)
    before = disc(*LEFT) if inside else both
    click = Click(RIGHT[0] / WIDTH, RIGHT[1] / HEIGHT, inside)
    found = find_again(network, picture(), before, [click])
    assert similarity(found, both if inside else disc(*LEFT)) > 0.85


@pytest.mark.weights
def test_the_mask_has_the_earlier_masks_shape(network: PromptedNetwork) -> None:
    earlier = np.asarray(cv2.resize(disc(*LEFT), (101, 57)), np.float32)
    assert find_again(network, picture(), earlier).shape == (57, 101)


def test_what_is_gone_is_not_looked_for_in_the_whole_picture() -> None:
    class Nothing(KnowsNoThing):
        asked = 0

        def find(self, image: Image, earlier: Alpha, clicks: Sequence[Click] = ()) -> Alpha:
            self.asked += 1
            return np.zeros_like(earlier)

    finder = Nothing()
    assert not find_again(finder, picture(), disc(*LEFT)).any()
    assert finder.asked == 1


class Remembering(KnowsNoThing):
    """Returns the earlier mask, and keeps what it was asked."""

    def __init__(self) -> None:
        self.shape = (0, 0)
        self.clicks: Sequence[Click] = ()

    def find(self, image: Image, earlier: Alpha, clicks: Sequence[Click] = ()) -> Alpha:
        self.shape = earlier.shape
        self.clicks = clicks
        return earlier


def test_a_click_on_what_is_missing_is_looked_at_in_a_square_round_it() -> None:
    finder = Remembering()
    before = disc(*LEFT)
    clicks = [Click(x / WIDTH, 0.5, inside=True) for x in (20, 340)]
    found = find_again(finder, picture(), before, clicks)
    assert finder.shape == (HEIGHT, HEIGHT)
    assert finder.clicks == [Click(0.5, 0.5, inside=True)]
    np.testing.assert_array_equal(found, before)  # what lies outside the square stays


def test_at_the_pictures_edge_the_square_is_as_large() -> None:
    finder = Remembering()
    find_again(finder, picture(), disc(*LEFT), [Click(1 - 27 / WIDTH, 0.1, inside=True)])
    assert finder.shape == (HEIGHT, HEIGHT)
    assert [round(click.x, 6) for click in finder.clicks] == [0.9]


def test_a_click_on_what_is_too_much_is_looked_at_with_all_of_the_mask() -> None:
    finder = Remembering()
    find_again(finder, picture(), disc(*LEFT, radius=20), [Click(0.3, 0.5, inside=False)])
    assert 1.4 * 41 <= finder.shape[0] < HEIGHT / 2


@pytest.mark.weights
def test_the_thing_at_a_click_is_found_without_a_mask() -> None:
    """In a square of two thirds of the picture's height round it: the other disc is not in it."""
    click = Click(LEFT[0] / WIDTH, LEFT[1] / HEIGHT, inside=True)
    found = find_thing(prompted_network(model_path()), picture(), click, (HEIGHT, WIDTH))
    assert similarity(found, disc(*LEFT)) > 0.9
    assert not find_thing(Remembering(), picture(), click, (HEIGHT, WIDTH)).any()


def test_another_network_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="models pull"):
        PromptedNetwork(redness(tmp_path)).load()


def test_without_a_network_the_earlier_mask_is_what_is_found() -> None:
    earlier = disc(*LEFT)
    np.testing.assert_array_equal(Unmoved().find(picture(), earlier), earlier)

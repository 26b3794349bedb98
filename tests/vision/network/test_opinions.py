import numpy as np
import pytest

from foremask.vision.image import ArrayImage
from foremask.vision.network.opinions import View, ask
from foremask.vision.network.session import InputSize
from tests.support.networks import Drawn

GRID = (64, 36)
NEVER = 1.0  # above every uncertainty


class RedNetwork(Drawn):
    any_size = True


def red_on_the_right() -> ArrayImage:
    rgb = np.full((180, 320, 3), 90, np.uint8)
    rgb[60:120, 220:280] = (220, 30, 30)
    return ArrayImage(rgb)


def test_every_view_finds_the_thing_where_it_is() -> None:
    network = RedNetwork()
    opinions = ask(network, red_on_the_right(), GRID, mirrored_above=-1, cropped_above=-1)
    assert set(opinions) == set(View)
    truth = np.zeros((36, 64), np.bool_)
    truth[12:24, 44:56] = True
    for mask in opinions.values():
        assert mask.shape == (36, 64)
        assert ((mask > 127) != truth).sum() <= 24  # less than half of the outline


@pytest.mark.parametrize(
    ("mirrored_above", "cropped_above", "sizes"),
    [
        (NEVER, NEVER, [None]),
        (NEVER, -1, [None, (768, 768)]),
        (-1, NEVER, [None, None]),
        (-1, -1, [None, None, (768, 768)]),
    ],
)
def test_more_is_asked_only_where_the_first_answer_is_unsure_and_features_do_not_wait_for_it(
    mirrored_above: float, cropped_above: float, sizes: list[InputSize | None]
) -> None:
    network = RedNetwork()
    asked_by_then: list[int] = []

    def learn(_: object) -> None:
        asked_by_then.append(len(network.sizes))

    ask(network, red_on_the_right(), GRID, mirrored_above, cropped_above, learn)
    assert network.sizes == sizes
    assert asked_by_then == [1]

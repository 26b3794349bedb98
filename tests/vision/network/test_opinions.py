"""What the network is asked of one picture, and how it is shown."""

import numpy as np

from foremask.types import Alpha, Image
from foremask.vision.image import ArrayImage, Box, Cropped
from foremask.vision.network.opinions import CROP_PX, View, ask, letterbox
from foremask.vision.network.session import InputSize, NetworkOutput

GRID = (64, 36)


class RedNetwork:
    """Notes at which size it is asked, and finds what is red."""

    runtime = "drawn"
    any_size = True

    def __init__(self) -> None:
        self.sizes: list[InputSize | None] = []

    def infer(self, image: Image, size: InputSize | None = None) -> NetworkOutput:
        """Judge one picture, and note the size."""
        self.sizes.append(size)
        rgb = image.rgb(*(size or (128, 128))).astype(int)
        return NetworkOutput((rgb[..., 0] > rgb[..., 1] + 60).astype(np.float32), ())


def red_on_the_right() -> ArrayImage:
    rgb = np.full((180, 320, 3), 90, np.uint8)
    rgb[60:120, 220:280] = (220, 30, 30)
    return ArrayImage(rgb)


def never(_: Alpha) -> bool:
    return False


def always(_: Alpha) -> bool:
    return True


ALL = (View.MIRRORED, View.LETTERBOX, View.CROP)


def test_every_view_finds_the_thing_where_it_is() -> None:
    """Mirrored, cropped, with its aspect kept: all come back to the place in the picture."""
    opinions = ask(RedNetwork(), red_on_the_right(), GRID, ALL, (), never)
    assert list(opinions.masks) == [View.STRETCHED, *ALL]
    truth = np.zeros((36, 64), np.bool_)
    truth[12:24, 44:56] = True
    for mask in opinions.masks.values():
        assert mask.shape == (36, 64)
        assert ((mask > 127) != truth).sum() <= 24  # less than half of the outline


def test_more_is_asked_only_where_the_first_answer_is_unsure() -> None:
    """One inference, or four."""
    for uncertain, asked in ((never, 1), (always, 4)):
        network = RedNetwork()
        ask(network, red_on_the_right(), GRID, (), ALL, uncertain)
        assert len(network.sizes) == asked


def test_the_crop_is_shown_small_and_the_letterbox_in_its_aspect() -> None:
    """16 : 9 at 1024 columns is 576 rows."""
    network = RedNetwork()
    ask(network, red_on_the_right(), GRID, ALL, (), never)
    assert network.sizes == [None, None, (1024, 576), (CROP_PX, CROP_PX)]


def test_where_nothing_is_found_nothing_is_cropped_to() -> None:
    """An empty picture: the crop is left out."""
    empty = ArrayImage(np.full((180, 320, 3), 90, np.uint8))
    opinions = ask(RedNetwork(), empty, GRID, ALL, (), never)
    assert View.CROP not in opinions.masks


def test_a_network_of_one_size_is_not_shown_a_letterbox() -> None:
    """It would only see the stretched picture again."""
    network = RedNetwork()
    network.any_size = False
    opinions = ask(network, red_on_the_right(), GRID, ALL, (), never)
    assert View.LETTERBOX not in opinions.masks


def test_a_letterbox_fits_the_networks_own_halving() -> None:
    """Multiples of 64, whatever the aspect."""
    for width, height in ((1920, 1080), (1080, 1920), (1920, 200), (333, 777)):
        columns, rows = letterbox(ArrayImage(np.zeros((height, width, 3), np.uint8)))
        assert columns % 64 == rows % 64 == 0
        assert max(columns, rows) == 1024
        assert min(columns, rows) >= 64


def test_a_cropped_picture_is_the_part_of_the_picture() -> None:
    """The red square alone is all red, at any size."""
    crop = Cropped(red_on_the_right(), Box(220 / 320, 60 / 180, 280 / 320, 120 / 180))
    assert (crop.width, crop.height) == (60, 60)
    for side in (30, 60, 100):
        rgb = crop.rgb(side, side)
        assert rgb.shape == (side, side, 3)
        assert (rgb[2:-2, 2:-2] == (220, 30, 30)).all()

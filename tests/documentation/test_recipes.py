"""Runs the commands and pages of docs/recipes.md on a clip whose mask is known."""

import os
from collections.abc import Generator
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np
import pytest
from playwright.sync_api import Browser

from foremask.masking.pipeline import mask_video
from foremask.options import MaskOptions
from tests.documentation.pages import DOCS
from tests.documentation.test_docs import blocks
from tests.support import synth
from tests.support.browser import browsing
from tests.support.http_server import serving_files
from tests.support.programs import shell

pytestmark = pytest.mark.slow

SPEC = synth.Spec(
    width=128,
    height=96,
    pts=(0, 1000, 2000, 3500, 4000, 6000, 7000, 8000, 9000, 9500),  # not at a constant rate
    sound=(synth.Tone(),),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("recipes")
    (made / "ffmpeg").symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
    synth.write(made / "clip.mp4", SPEC)
    masks = [np.divide(mask, 255, dtype=np.float32) for _, mask in synth.draw(SPEC)]
    mask_video(made / "clip.mp4", made / "mask.mp4", MaskOptions(), masker=lambda _: iter(masks))
    script = 'ffmpeg() { ./ffmpeg -nostdin -v error -y "$@"; }\n'
    script += "".join(blocks(DOCS / "recipes.md", "sh"))
    shell(script, made, {"PATH": os.environ["PATH"]})
    return made


@pytest.mark.parametrize("name", ["cutout.webm", "stacked.mp4"])
def test_what_ffmpeg_makes_has_the_times_of_the_clip(folder: Path, name: str) -> None:
    times = [float(time_s) for time_s in synth.shown_at(folder / name)]
    assert times == pytest.approx([at * float(SPEC.time_base) for at in SPEC.pts], abs=0.001)


GREEN = (0, 177, 64)
PAGES = dict(zip(("video", "still", "stacked"), blocks(DOCS / "recipes.md", "html"), strict=True))
SHOWN = {
    "video": "document.querySelector('video').currentTime > 0",
    "still": "document.querySelector('img').complete",
    "stacked": "document.getElementById('cut').width === 128",
}


@pytest.fixture(scope="module")
def browser() -> Generator[Browser]:
    with browsing() as browser:
        yield browser


@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_the_subject_over_what_is_behind_it(
    folder: Path, browser: Browser, name: str
) -> None:
    drawn = list(synth.draw(SPEC))
    cv2.imwrite(str(folder / "frame.png"), drawn[0][0][..., ::-1])
    cv2.imwrite(str(folder / "mask.png"), drawn[0][1])
    head = f"<!doctype html><body style='margin: 0; background: rgb{GREEN}'>"
    (folder / f"{name}.html").write_text(head + PAGES[name])
    with serving_files(folder) as site:
        page = browser.new_page(viewport={"width": 160, "height": 120})
        page.goto(f"{site}/{name}.html")
        page.wait_for_function(SHOWN[name])
        shot = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_COLOR)
        page.close()
    assert shot is not None
    shown = shot[:96, :128, ::-1].astype(int)
    red = np.abs(shown - (220, 30, 30)).max(axis=2) < 24
    green = np.abs(shown - GREEN).max(axis=2) < 24
    brush = np.ones((7, 7))  # what a codec blurs is neither
    most = max(
        min(red[cv2.erode(mask, brush) == 255].mean(), green[cv2.dilate(mask, brush) == 0].mean())
        for _, mask in drawn
    )
    assert most > 0.97

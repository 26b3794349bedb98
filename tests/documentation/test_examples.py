import ast
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Generator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import imageio_ffmpeg
import numpy as np
import pytest
from benchmarks.clips import frames_of, masks_of
from playwright.sync_api import Browser
from tools.docs_site import build
from tools.pages import DOCS

import foremask
from foremask.masking.runner import run
from foremask.media.verify import verify
from foremask.options import Files, JobSpec
from foremask.service.api.pages import read_folder
from tests.documentation.test_docs import ROOT, blocks
from tests.service.api.conftest import Running, clip_origin, drawn, good, serves, service
from tests.service.api.worker import completed
from tests.service.run.test_serve import Served, served
from tests.support import synth
from tests.support.browser import browsing, screenshot, strict_page
from tests.support.http_server import Handler, answers, serving, serving_files
from tests.support.patience import PATIENCE_S, wait_until
from tests.support.programs import NODE, environ_with, fresh, ran, shell

__all__ = ["clip_origin", "drawn", "good", "served", "service"]  # fixtures
pytestmark = pytest.mark.slow

README = ROOT / "README.md"


def block_with(page: Path, language: str, words: str) -> str:
    """The page's first block of code in ``language`` that has ``words``."""
    return next(block for block in blocks(page, language) if words in block)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    synth.write(tmp_path / "clip.mp4", synth.Spec(width=128, height=96, sound=(synth.Tone(),)))
    return tmp_path


@pytest.mark.weights
def test_the_library_example_masks(folder: Path) -> None:
    example = block_with(README, "python", "mask_video")
    done = fresh(example, cwd=folder, timeout=300)
    assert done.stdout.startswith("10 frames, ")
    assert verify(folder / "clip.mp4", folder / "mask.mp4")


@pytest.mark.weights
@pytest.mark.postgres
def test_the_service_example_submits_and_downloads(folder: Path, served: Served) -> None:
    variables = re.findall(r"(FOREMASK_\w+)=(\S+)", block_with(README, "sh", "make run"))
    served.start(**dict(variables) | {"FOREMASK_MODEL_FILE": ""})
    wait_until(lambda: answers(f"http://127.0.0.1:{served.port}/readyz"))
    script = block_with(README, "sh", "foremask submit")
    script = script.replace(":8000", f":{served.port}")
    script = script.replace(".venv/bin/foremask", f"{sys.executable} -m foremask")
    assert str(served.port) in script
    shell(script, folder)
    assert verify(folder / "clip.mp4", folder / "mask.mp4")


@pytest.mark.weights
def test_every_recipe_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = synth.Spec(width=160, height=96, pts=(0, 1000))
    synth.write(tmp_path / "clip.mp4", spec)
    (tmp_path / "holiday").mkdir()
    shutil.copy(tmp_path / "clip.mp4", tmp_path / "holiday" / "beach.mp4")
    (tmp_path / "holiday" / "broken.mp4").write_text("no clip")
    cv2.imwrite(str(tmp_path / "photo.jpg"), synth.disc(160, 96, 0.5)[0][:, :, ::-1])
    monkeypatch.chdir(tmp_path)
    recipes = blocks(DOCS / "python.md", "python")
    assert len(recipes) >= 8
    names: dict[str, Any] = {}
    for recipe in recipes:
        exec(compile(recipe, "python.md", "exec"), names)  # noqa: S102  # the page's own words
    shown = capsys.readouterr().out
    assert shown.startswith("clip.mask.mp4 ")
    assert "broken.mp4: The file is text, whatever its name says. [not_a_video]" in shown
    assert (tmp_path / "holiday" / "beach.mask.mov").exists()
    assert names["rgba"].shape == (96, 160, 4)
    assert len(names["coverage"]) == 2
    mask = cv2.imread("photo.mask.png", cv2.IMREAD_GRAYSCALE)
    assert mask is not None
    assert mask.shape == names["alpha"].shape == (96, 160)
    assert foremask.verify("clip.mp4", "clip.mask.mp4")
    shown_png = run_notebook(DOCS / "notebook.ipynb")._repr_png_()
    picture = cv2.imdecode(np.frombuffer(shown_png, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape == (96, 3 * 160, 3)


def run_notebook(path: Path) -> Any:  # noqa: ANN401  # what the last cell shows
    names: dict[str, Any] = {}
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    *body, last = ast.parse("\n".join(sources)).body
    assert isinstance(last, ast.Expr)
    exec(compile(ast.Module(body, []), path.name, "exec"), names)  # noqa: S102
    return eval(compile(ast.Expression(last.value), path.name, "eval"), names)  # noqa: S307


# docs/http-api.md and docs/webhooks.md

TOKEN, JOB, AT = "test-token-abc123", "req-9f8e7d6c", "1723800000"
BODY = '{"request_id":"req-9f8e7d6c","status":"COMPLETED"}'
SIGNATURE = "v1=L49e/+aGg8Xr6F7PT9+bYWJ4ADPN73Pu5ooGltV5MUs="
HEADERS = {
    "Bria-Webhook-Id": JOB,
    "Bria-Webhook-Timestamp": AT,
    "Bria-Webhook-Signature": f"v1=AAAA, {SIGNATURE}",
}

NOW = int(AT)
ASKED: list[tuple[Any, ...]] = [(BODY, TOKEN, NOW + 299), (BODY, TOKEN, NOW + 301), (BODY, TOKEN)]
ASKED += [(BODY + " ", TOKEN, NOW), (BODY, "another", NOW)]
GENUINE = [True, False, False, False, False]

STARTS_JOB = ("segment/", "edit/", "foreground_mask", "convert", "refine")
"""In the paths of calls that start a job."""


def test_every_curl_line_works(service: Running, good: str, drawn: Path, tmp_path: Path) -> None:
    made = completed(service, good, drawn / "good.mp4")
    shutil.copy(drawn / "good.mp4", tmp_path / "clip.mp4")
    first, *rest = blocks(DOCS / "http-api.md", "sh")
    names = re.findall(r"^(\w+)=", first, re.MULTILINE)
    assert names == ["API", "TOKEN", "VIDEO"]
    lines = [line for block in rest for line in block.splitlines()]
    numbered = [
        line + (f' -w "\\n%{{http_code}} {number}\\n"' if line.startswith("curl") else "")
        for number, line in enumerate(lines)
    ]
    environ = {"API": service.url, "TOKEN": service.token, "VIDEO": good}
    environ |= {"PATH": "/usr/local/bin:/usr/bin:/bin", "DONE": made["request_id"]}
    shown = shell("\n".join(numbered), tmp_path, environ)
    answered = {int(n): int(c) for c, n in re.findall(r"^(\d{3}) (\d+)$", shown, re.MULTILINE)}
    assert answered.keys() == {at for at, line in enumerate(lines) if line.startswith("curl")}
    for number, line in ((at, lines[at]) for at in answered):
        expected = (
            404 if "no-such" in line
            else 206 if " -r " in line
            else 202 if any(f"/{word}" in line for word in STARTS_JOB)
            else 204 if " -F " in line
            else 200
        )  # fmt: skip
        assert (answered[number], line) == (expected, line)
    assert (tmp_path / "mask.mp4").read_bytes() == (drawn / "good.mp4").read_bytes()
    assert (tmp_path / "part.bin").stat().st_size == 100


live_service = serves(own_model=True)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    drawn, _ = synth.disc(160, 120, 0.5)
    cv2.imwrite(str(tmp_path / "frame.jpg"), cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
    return tmp_path / "frame.jpg"


def test_the_python_client_of_a_live_stream_works(live_service: Running, picture: Path) -> None:
    source = block_with(DOCS / "live.md", "python", "import")
    assert len(source.splitlines()) <= 15
    address = live_service.url.replace("http", "ws", 1)
    fresh(source, address, live_service.token, picture)
    mask = cv2.imread(str(picture.with_suffix(".mask.jpg")), cv2.IMREAD_UNCHANGED)
    assert mask is not None
    assert mask.shape == (120, 160)


SLEEP = r"""sleep() {
  for _ in $(seq "$1"0); do
    LC_ALL=C grep -qaP '\xff\xd9' answer && return
    command sleep 0.1
  done
}
"""
"""Ends the wait for the answer when the end of a JPEG is in it."""


def test_the_curl_client_of_a_live_stream_works(live_service: Running, picture: Path) -> None:
    source = block_with(DOCS / "live.md", "bash", "curl")
    assert len(source.splitlines()) <= 15
    environ = environ_with(ADDRESS=live_service.url, TOKEN=live_service.token, WAIT="60")
    ran("bash", "-c", SLEEP + source, cwd=picture.parent, env=environ)
    mask = cv2.imread(str(picture.with_name("mask.jpg")), cv2.IMREAD_UNCHANGED)
    assert mask is not None
    assert mask.shape == (120, 160)


def test_the_virtual_camera_gets_the_subject_over_a_picture(folder: Path, model: Path) -> None:
    """From a file instead of a camera, and into a file instead of a device."""
    *_, recipe = block_with(DOCS / "live.md", "bash", "v4l2").splitlines()
    recipe = recipe.replace("/dev/video0", "clip.mp4").replace("-f v4l2", "-f rawvideo")
    recipe = recipe.replace("/dev/video9", "camera.yuv")
    programs = f"""
        ffmpeg() {{ {imageio_ffmpeg.get_ffmpeg_exe()} -nostdin -loglevel error "$@"; }}
        foremask() {{ {sys.executable} -m foremask "$@"; }}
        """
    cv2.imwrite(str(folder / "beach.jpg"), np.full((96, 128, 3), (200, 80, 30), np.uint8))
    shell(programs + recipe, folder, environ_with(FOREMASK_MODEL_FILE=str(model)))
    yuv = np.fromfile(folder / "camera.yuv", np.uint8).reshape(-1, 96 + 48, 128)
    first = cv2.cvtColor(yuv[0], cv2.COLOR_YUV2RGB_I420)
    assert len(yuv) > 1
    assert np.abs(first[4, 4].astype(int) - (30, 80, 200)).max() < 12  # the picture
    disc, right = synth.disc(128, 96, 0.0)
    inside = right > 127
    assert np.abs(first[inside].mean(0) - disc[inside].mean(0)).max() < 40


def test_the_python_verification_takes_the_vector_of_the_page() -> None:
    page = (DOCS / "webhooks.md").read_text(encoding="utf-8")
    assert all(f"`{each}`" in page for each in (TOKEN, JOB, AT, BODY, SIGNATURE))
    space: dict[str, Callable[..., bool]] = {}
    source = block_with(DOCS / "webhooks.md", "python", "def is_genuine")
    exec(source, space)  # noqa: S102  # it is the documentation that is tested
    is_genuine = space["is_genuine"]
    assert [is_genuine(body.encode(), HEADERS, *more) for body, *more in ASKED] == GENUINE


def test_the_javascript_verification_works(tmp_path: Path) -> None:
    source = block_with(DOCS / "webhooks.md", "javascript", "isGenuine")
    lowered = json.dumps({name.lower(): value for name, value in HEADERS.items()})
    (tmp_path / "webhook.mjs").write_text(source)
    (tmp_path / "try.mjs").write_text(
        f"""import {{ isGenuine }} from "./webhook.mjs";
        console.log(JSON.stringify({json.dumps(ASKED)}.map(([body, ...more]) =>
          isGenuine(Buffer.from(body), {lowered}, ...more))));"""
    )
    assert json.loads(ran(NODE, tmp_path / "try.mjs").stdout) == GENUINE


# docs/recipes.md, on a clip whose mask is known

SPEC = synth.Spec(
    width=128,
    height=96,
    pts=(0, 1000, 2000, 3500, 4000, 6000, 7000, 8000, 9000, 9500),  # not at a constant rate
    sound=(synth.Tone(),),
)


@pytest.fixture(scope="module")
def made_by_ffmpeg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("recipes")
    (made / "ffmpeg").symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
    synth.write(made / "clip.mp4", SPEC)
    masks = [np.divide(mask, 255, dtype=np.float32) for _, mask in synth.draw(SPEC)]
    files = Files(source=made / "clip.mp4", target=made / "mask.mp4")
    run(JobSpec(), files, masker=lambda _: iter(masks))
    script = 'ffmpeg() { ./ffmpeg -nostdin -v error -y "$@"; }\n'
    script += "".join(blocks(DOCS / "recipes.md", "sh"))
    shell(script, made, {"PATH": os.environ["PATH"]})
    return made


@pytest.mark.parametrize("name", ["cutout.webm", "stacked.mp4"])
def test_what_ffmpeg_makes_has_the_times_of_the_clip(made_by_ffmpeg: Path, name: str) -> None:
    times = [float(time_s) for time_s in synth.shown_at(made_by_ffmpeg / name)]
    assert times == pytest.approx([at * float(SPEC.time_base) for at in SPEC.pts], abs=0.001)


def test_at_a_constant_rate_clip_and_mask_have_the_same_frames(made_by_ffmpeg: Path) -> None:
    clip, mask = (synth.shown_at(made_by_ffmpeg / f"{name}.30.mp4") for name in ("clip", "mask"))
    assert clip == mask == [Fraction(number, 30) for number in range(len(clip))]
    pictures = frames_of(made_by_ffmpeg / "clip.30.mp4")
    masks = masks_of(made_by_ffmpeg / "mask.30.mp4")
    for picture, white in zip(pictures, masks, strict=True):
        red = picture[..., 0].astype(int) - picture[..., 1] > 80
        assert (red == (white > 127)).mean() > 0.98


GREEN = (0, 177, 64)
PAGES = dict(zip(("video", "still", "stacked"), blocks(DOCS / "recipes.md", "html"), strict=True))
SHOWN = {
    "video": "document.querySelector('video').currentTime > 0",
    "still": "document.querySelector('img').complete",
    "stacked": "document.getElementById('cut').width === 128",
}


@pytest.fixture
def browser() -> Generator[Browser]:
    """Closed after each test: beside it, no other test of the module can run an event loop."""
    with browsing() as browser:
        yield browser


@pytest.mark.parametrize("name", PAGES)
def test_a_page_shows_the_subject_over_what_is_behind_it(
    made_by_ffmpeg: Path, browser: Browser, name: str
) -> None:
    drawn = list(synth.draw(SPEC))
    cv2.imwrite(str(made_by_ffmpeg / "frame.png"), drawn[0][0][..., ::-1])
    cv2.imwrite(str(made_by_ffmpeg / "mask.png"), drawn[0][1])
    head = f"<!doctype html><body style='margin: 0; background: rgb{GREEN}'>"
    (made_by_ffmpeg / f"{name}.html").write_text(head + PAGES[name])
    with serving_files(made_by_ffmpeg) as site:
        page = browser.new_page(viewport={"width": 160, "height": 120})
        page.goto(f"{site}/{name}.html")
        page.wait_for_function(SHOWN[name])
        shot = screenshot(page)
        page.close()
    shown = shot[:96, :128].astype(int)
    red = np.abs(shown - (220, 30, 30)).max(axis=2) < 24
    green = np.abs(shown - GREEN).max(axis=2) < 24
    brush = np.ones((7, 7))  # what a codec blurs is neither
    most = max(
        min(red[cv2.erode(mask, brush) == 255].mean(), green[cv2.dilate(mask, brush) == 0].mean())
        for _, mask in drawn
    )
    assert most > 0.97


# The site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site") / "site"
    build(target)
    return target


def test_every_page_is_there_as_html_and_as_markdown_and_no_other_is_promised(site: Path) -> None:
    index = (site / "llms.txt").read_text(encoding="utf-8")
    promised = set(re.findall(r"\]\(([\w./-]+\.md)\)", index))
    assert {page.name for page in DOCS.glob("*.md")} <= promised
    for name in promised:
        html = site / ("index.html" if name == "README.md" else f"{name.removesuffix('.md')}.html")
        assert (site / name).is_file(), name
        assert not re.search(r">[\w-]+\.md</a>", html.read_text(encoding="utf-8")), name
    found = json.loads((site / "search.json").read_text(encoding="utf-8"))["items"]
    locations = [each["location"] for each in found]
    assert not [each for each in locations if each.startswith(("adr/", "research/"))]


def test_search_finds_a_page_under_the_strict_policy(site: Path, browser: Browser) -> None:
    found, asked = read_folder(site), list[str]()

    class Pages(Handler):
        def do_GET(self) -> None:  # noqa: N802
            name = self.path.lstrip("/").partition("?")[0]
            asked.append(name)
            page = found[name]
            self.send_response(200)
            self.send_header("Content-Type", page.media_type)
            self.send_header("Content-Security-Policy", page.policy)
            self.end_headers()
            self.wfile.write(page.content)

    with serving(Pages) as address, strict_page(browser, address) as page:
        page.goto(f"{address}/index.html", wait_until="networkidle")
        words = page.get_by_role("combobox").or_(page.get_by_placeholder("Search")).first
        page.set_default_timeout(1000 * PATIENCE_S)
        words.wait_for(state="attached")
        page.evaluate("new Promise((so) => requestAnimationFrame(() => setTimeout(so)))")
        page.keyboard.press("Control+k")  # heard from then on; a second one would close the search
        words.fill("idempotency")
        page.get_by_text("Send a request again safely").first.wait_for()
    assert set(asked) <= found.keys()

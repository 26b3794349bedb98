import ast
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import foremask
from foremask.media.verify import verify
from tests.documentation.pages import DOCS
from tests.documentation.test_docs import ROOT, blocks
from tests.service.run.test_serve import Served, served
from tests.support import synth
from tests.support.http_server import answers
from tests.support.patience import wait_until
from tests.support.programs import fresh, shell

__all__ = ["served"]  # a fixture
pytestmark = pytest.mark.slow

README = ROOT / "README.md"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    synth.write(tmp_path / "clip.mp4", synth.Spec(width=128, height=96, sound=(synth.Tone(),)))
    return tmp_path


@pytest.mark.weights
def test_the_library_example_masks(folder: Path) -> None:
    (example,) = blocks(README, "python")
    ran = fresh(example, cwd=folder, timeout=300)
    assert ran.stdout.startswith("10 frames, ")
    assert verify(folder / "clip.mp4", folder / "mask.mp4")


@pytest.mark.weights
@pytest.mark.postgres
def test_the_service_example_submits_and_downloads(folder: Path, served: Served) -> None:
    first, second = blocks(README, "sh")
    exports, command = first.strip().split("\n")
    assert command == "make run"
    served.start(
        **dict(word.split("=", 1) for word in exports.split()[1:]) | {"FOREMASK_MODEL_FILE": ""}
    )
    wait_until(lambda: answers(f"http://127.0.0.1:{served.port}/readyz"))
    script = second.replace(":8000", f":{served.port}")
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

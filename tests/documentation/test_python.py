"""The recipes of docs/python.md, run in their order as they stand."""

import ast
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import foremask
from tests.documentation.pages import DOCS
from tests.documentation.test_docs import blocks
from tests.support import synth

pytestmark = pytest.mark.slow


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

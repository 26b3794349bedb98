"""The files by which others find and install foremask; no validator needs an account."""

import importlib.util
import re
import shutil
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from foremask.media.verify import verify
from foremask.options import ResultKind
from tests.support import synth
from tests.support.programs import ran

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
VERSION = PROJECT["version"]
REPOSITORY = "https://example.org/someone/foremask"
CONDA_NAMES = {"opencv-python-headless": "py-opencv"}


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipes")
    sdist = folder / f"foremask-{VERSION}.tar.gz"
    sdist.write_bytes(b"")
    module(ROOT / "tools" / "recipes.py").write(sdist, REPOSITORY, folder / "made")
    return folder / "made"


OF_NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_conda_and_homebrew_name_the_version_and_the_hash_of_the_sdist(recipes: Path) -> None:
    for name in ("conda-forge/recipe.yaml", "homebrew/Formula/foremask.rb"):
        text = (recipes / name).read_text(encoding="utf-8")
        assert VERSION in text
        assert OF_NOTHING in text
        assert "@" not in re.sub(r"python@3\.\d+", "", text)


def test_condas_requirements_are_those_of_the_package(recipes: Path) -> None:
    recipe = yaml.safe_load((recipes / "conda-forge" / "recipe.yaml").read_text(encoding="utf-8"))
    listed = dict(each.split(" ", 1) for each in recipe["requirements"]["run"])
    del listed["python"]
    wanted = {}
    for each in map(Requirement, PROJECT["dependencies"]):
        parts = sorted(str(each.specifier).split(","), key=lambda part: part[0] != ">")
        wanted[CONDA_NAMES.get(each.name, each.name)] = ",".join(parts)
    assert listed == wanted


@pytest.mark.slow
def test_the_formula_is_ruby(recipes: Path) -> None:
    formula = recipes / "homebrew" / "Formula" / "foremask.rb"
    assert re.search(r'^  url "https://[^"]+\.tar\.gz"$', formula.read_text(), re.MULTILINE)
    if ruby := shutil.which("ruby"):
        assert ran(ruby, "-wc", formula).stdout == "Syntax OK\n"


def test_the_nodes_say_what_the_registry_of_comfyui_asks_for(recipes: Path) -> None:
    """By the registry's published specification of pyproject.toml."""
    facts = tomllib.loads((recipes / "comfyui" / "pyproject.toml").read_text(encoding="utf-8"))
    project = facts["project"]
    assert re.fullmatch(r"[a-z]([a-z0-9]|[-_.](?![-_.])){0,98}", project["name"])
    assert project["version"] == VERSION
    assert project["urls"]["Repository"] == REPOSITORY
    assert project["license"] == {"text": "Apache-2.0"}
    assert set(facts["tool"]["comfy"]) >= {"PublisherId", "DisplayName"}
    required = (recipes / "comfyui" / "requirements.txt").read_text().split()
    assert required == project["dependencies"]


def test_the_citation_names_the_version_and_each_author() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert Version(cited["version"]) == Version(VERSION)
    assert cited["cff-version"] == "1.2.0"
    assert {"title", "message", "authors", "license"} <= set(cited)


def test_the_space_names_its_program_and_what_it_needs() -> None:
    space = ROOT / "integrations" / "space"
    front = yaml.safe_load((space / "README.md").read_text(encoding="utf-8").split("---")[1])
    assert (space / front["app_file"]).is_file()
    assert front["sdk"] == "gradio"
    assert len(front["short_description"]) <= 60
    (needed,) = (space / "requirements.txt").read_text().split()
    assert Version(VERSION) in Requirement(needed).specifier


@pytest.mark.weights
def test_the_space_masks_and_cuts_out(tmp_path: Path) -> None:
    clip = synth.write(tmp_path / "clip.mp4", synth.Spec(160, 96, pts=(0, 1000, 2000)))
    space = module(ROOT / "integrations" / "space" / "app.py")
    mask, cut, said = space.masked(str(clip))
    assert verify(clip, Path(mask))
    assert verify(clip, Path(cut), ResultKind.CUTOUT)
    assert said.startswith("3 frames, ")
    with pytest.raises(ValueError, match="Choose a clip"):
        space.masked(None)


def test_links_of_the_packages_page_are_absolute_or_plain() -> None:
    page = module(ROOT / "tools" / "package_metadata.py").page_of
    readme = "[a](docs/a.md#b) ![c](d.webp) [e](https://e.example) [f](#f)"
    assert page(readme, "https://r.example", "v1") == (
        "[a](https://r.example/blob/v1/docs/a.md#b) ![c](https://r.example/raw/v1/d.webp)"
        " [e](https://e.example) [f](#f)"
    )
    assert page(readme, "", "v1") == "a *c* [e](https://e.example) [f](#f)"
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "Blender" not in page(text, "", "v1")  # the credit of a picture that is not there
    whole = page(text, REPOSITORY, "v1")
    assert "Blender" in whole
    assert not re.findall(r"\]\((?!https?://|#)[^)]*\)", whole)
    for path in re.findall(rf"{REPOSITORY}/(?:raw|blob)/v1/([^)#]+)", whole):
        assert (ROOT / path).exists(), path

"""The files by which others find and install foremask; no validator needs an account."""

import re
import shutil
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version
from tools.package_metadata import page_of
from tools.recipes import write

from tests.support.programs import ran

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
VERSION = PROJECT["version"]
REPOSITORY = "https://example.org/someone/foremask"
CONDA_NAMES = {"opencv-python-headless": "py-opencv"}


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipes")
    sdist = folder / f"foremask-{VERSION}.tar.gz"
    sdist.write_bytes(b"")
    write(sdist, REPOSITORY, folder / "made")
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


def test_links_of_the_packages_page_are_absolute_or_plain() -> None:
    readme = "[a](docs/a.md#b) ![c](d.webp) [e](https://e.example) [f](#f)"
    assert page_of(readme, "https://r.example", "v1") == (
        "[a](https://r.example/blob/v1/docs/a.md#b) ![c](https://r.example/raw/v1/d.webp)"
        " [e](https://e.example) [f](#f)"
    )
    assert page_of(readme, "", "v1") == "a *c* [e](https://e.example) [f](#f)"
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "Blender" not in page_of(text, "", "v1")  # the credit of a picture that is not there
    whole = page_of(text, REPOSITORY, "v1")
    assert "Blender" in whole
    assert not re.findall(r"\]\((?!https?://|#)[^)]*\)", whole)
    for path in re.findall(rf"{REPOSITORY}/(?:raw|blob)/v1/([^)#]+)", whole):
        assert (ROOT / path).exists(), path

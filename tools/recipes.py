"""Fills in the recipes of package managers for an sdist, into dist/recipes.

    python tools/recipes.py dist/foremask-1.0.0.tar.gz [REPOSITORY_URL]

The release workflow attaches what is written to the release. Where each goes: docs/releasing.md.
"""

import hashlib
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEMPLATES = {
    "deploy/recipes/conda.yaml": "conda-forge/recipe.yaml",
    "deploy/recipes/homebrew.rb": "homebrew/Formula/foremask.rb",
}


def main() -> None:
    sdist, *rest = sys.argv[1:]
    write(Path(sdist), rest[0] if rest else "", ROOT / "dist" / "recipes")


def write(sdist: Path, repository: str, target: Path) -> None:
    found = re.fullmatch(r"foremask-(.+)\.tar\.gz", sdist.name)
    if found is None:
        raise SystemExit(f"{sdist.name} is no sdist of foremask")
    facts = {
        "@VERSION@": found[1],
        "@SHA256@": hashlib.sha256(sdist.read_bytes()).hexdigest(),
    }
    for source, name in TEMPLATES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        for mark, fact in facts.items():
            text = text.replace(mark, fact)
        made = target / name
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_text(text, encoding="utf-8")
    nodes = target / "comfyui"
    shutil.rmtree(nodes, ignore_errors=True)
    shutil.copytree(
        ROOT / "integrations/comfyui", nodes, ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(ROOT / "LICENSE", nodes)
    if repository:  # the registry wants one
        pyproject = nodes / "pyproject.toml"
        urls = f'\n[project.urls]\nRepository = "{repository}"\n\n[tool.comfy]\n'
        text = pyproject.read_text(encoding="utf-8").replace("\n[tool.comfy]\n", urls)
        pyproject.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

"""The documentation as a web site, and as plain Markdown: ``make site``.

Zensical builds the pages of docs/ and reports each link that leads nowhere.
"""

import base64
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from foremask.service.api.pages import STYLE_HASHES
from tests.documentation.pages import DOCS

ROOT = DOCS.parent
PACKAGED = ROOT / "src/foremask/service/api/site"
"""Where the API looks for the site; git ignores it, and a wheel that is built after it has it."""
FROM_THE_ROOT = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
_OUTSIDE = re.compile(r"\[[^\]]*\]\(\.\./((?:deploy|LICENSE|SECURITY)[^)]*)\)")
_STYLE_IN_A_SCRIPT = re.compile(r"'(\.[a-z]\{[^'\\]{2000,}\})'")
_DRAWING = re.compile(r"^```mermaid$", re.MULTILINE)


def page_for_the_site(markdown: str) -> str:
    """A page whose links stay inside the site; drawings that need a program are shown as text."""
    markdown = _OUTSIDE.sub(r"`\1`", markdown)
    for name, page in FROM_THE_ROOT.items():
        markdown = markdown.replace(f"](../{name}", f"]({page}").replace(f"]({name}", f"]({page}")
    markdown = markdown.replace("](../README.md", "](README.md").replace("](docs/", "](")
    return _DRAWING.sub("```text", markdown)


def build(target: Path) -> None:
    """Build the site into ``target``, with a Markdown copy of every page beside it and llms.txt.

    Raises subprocess.CalledProcessError where a link leads nowhere.
    """
    with tempfile.TemporaryDirectory(prefix="foremask-site-") as name:
        folder = Path(name)
        pages = folder / "pages"
        shutil.copytree(DOCS, pages)
        for source, page in FROM_THE_ROOT.items():
            shutil.copy(ROOT / source, pages / page)
        for page_file in pages.rglob("*.md"):
            text = page_file.read_text(encoding="utf-8")
            page_file.write_text(page_for_the_site(text), encoding="utf-8")
        shutil.copy(ROOT / "zensical.toml", folder)
        command = [str(Path(sys.executable).with_name("zensical")), "build", "--strict", "--clean"]
        subprocess.run(command, cwd=folder, check=True)  # noqa: S603
        for page_file in pages.rglob("*.md"):
            shutil.copy(page_file, folder / "site" / page_file.relative_to(pages))
        index = (ROOT / "llms.txt").read_text(encoding="utf-8")
        index = re.sub(r"\]\((?:docs/)?([\w./-]+\.md)\)", r"](\1)", index)
        (folder / "site" / "llms.txt").write_text(page_for_the_site(index), encoding="utf-8")
        _name_styles(folder / "site")
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(folder / "site", target)


def _name_styles(site: Path) -> None:
    """Write down the style that the search dialog adds, so that the content policy can allow it."""
    scripts = "".join(each.read_text("utf-8") for each in (site / "assets").rglob("*.js"))
    styles = [each.encode() for each in _STYLE_IN_A_SCRIPT.findall(scripts)]
    digests = [base64.b64encode(hashlib.sha256(each).digest()).decode() for each in styles]
    (site / STYLE_HASHES).write_text("\n".join(digests) + "\n", encoding="utf-8")


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGED)

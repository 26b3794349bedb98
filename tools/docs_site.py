"""Builds the web site of the documentation by Zensical: ``make site``, and before ``make run``."""

import base64
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from foremask.service.api.pages import STYLE_HASHES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PACKAGED = ROOT / "src/foremask/service/api/site"
"""Where the API looks for the site; git ignores it, and a wheel that is built after it has it."""
LOGO = ROOT / "src/foremask/service/api/static/playground/icon.svg"
FROM_THE_ROOT = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
NOT_SEARCHED = "---\nsearch:\n  exclude: true\n---\n\n"
"""Before pages that tell why and what was: a search is for what to do."""
_OUTSIDE = re.compile(r"\[[^\]]*\]\(\.\./((?:deploy|integrations|LICENSE|SECURITY)[^)]*)\)")
_STYLE_IN_A_SCRIPT = re.compile(r"'(\.[a-z]\{[^'\\]{2000,}\})'")
_BLOCK = r"\*\*(?:Command line|Python|HTTP)\*\*\n\n(?:<!--.*-->\n)?```\w+\n(?:.*\n)*?```\n"
_TABS = re.compile(rf"(?:{_BLOCK}\n?){{2,}}")


def page_for_the_site(markdown: str) -> str:
    markdown = _OUTSIDE.sub(r"`\1`", markdown)
    for name, page in FROM_THE_ROOT.items():
        markdown = markdown.replace(f"](../{name}", f"]({page}").replace(f"]({name}", f"]({page}")
    return markdown.replace("](../README.md", "](README.md").replace("](docs/", "](")


def with_tabs(markdown: str) -> str:

    def tab(block: re.Match[str]) -> str:
        label, _, code = block[0].partition("\n\n")
        lines = (f"    {line}" for line in code.splitlines() if not line.startswith("<!--"))
        return f'=== "{label.strip("*")}"\n\n' + "\n".join(lines) + "\n"

    return _TABS.sub(lambda run: re.sub(_BLOCK, tab, run[0]), markdown)


def build(target: Path) -> None:
    """Build the site into ``target``, with llms.txt and a Markdown copy of every page.

    Raises subprocess.CalledProcessError where a link leads nowhere.
    """
    with tempfile.TemporaryDirectory(prefix="foremask-site-") as name:
        folder = Path(name)
        pages = folder / "pages"
        shutil.copytree(DOCS, pages)
        shutil.copy(LOGO, pages / "logo.svg")
        for source, page in FROM_THE_ROOT.items():
            shutil.copy(ROOT / source, pages / page)
        plain = {}
        for page_file in sorted(pages.rglob("*.md")):
            text = page_for_the_site(page_file.read_text(encoding="utf-8"))
            plain[page_file.relative_to(pages)] = text
            text = with_tabs(text)
            is_background = page_file.parent.name in ("adr", "research")
            if is_background or page_file.stem in ("changelog", "our-own-code"):
                text = NOT_SEARCHED + text
            page_file.write_text(text, encoding="utf-8")
        shutil.copy(ROOT / "zensical.toml", folder)
        command = [str(Path(sys.executable).with_name("zensical")), "build", "--strict", "--clean"]
        subprocess.run(command, cwd=folder, check=True)  # noqa: S603
        for name_there, text in plain.items():
            (folder / "site" / name_there).write_text(text, encoding="utf-8")
        index = (ROOT / "llms.txt").read_text(encoding="utf-8")
        index = re.sub(r"\]\((?:docs/)?([\w./-]+\.md)\)", r"](\1)", index)
        (folder / "site" / "llms.txt").write_text(page_for_the_site(index), encoding="utf-8")
        _mend(folder / "site")
        _name_styles(folder / "site")
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(folder / "site", target)


def _mend(site: Path) -> None:
    """Remove empty headers of tables and the landmark of each copy button, for screen readers."""
    for name, before, after in (
        ("*.html", "<th></th>", "<td></td>"),
        ("*.js", '("nav",{class:"md-code__nav"})', '("div",{class:"md-code__nav"})'),
    ):
        for path in site.rglob(name):
            path.write_text(path.read_text("utf-8").replace(before, after), encoding="utf-8")


def _name_styles(site: Path) -> None:
    """List the hash of the search dialog's style, which the content policy must allow."""
    scripts = "".join(each.read_text("utf-8") for each in (site / "assets").rglob("*.js"))
    styles = [each.encode() for each in _STYLE_IN_A_SCRIPT.findall(scripts)]
    digests = [base64.b64encode(hashlib.sha256(each).digest()).decode() for each in styles]
    (site / STYLE_HASHES).write_text("\n".join(digests) + "\n", encoding="utf-8")


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGED)

"""The page of the package: the README with absolute links, and the project's addresses.

A package page shows no file of a repository, so a relative link or picture is broken there. The
variable FOREMASK_REPOSITORY_URL, which the release workflow sets, names the repository that builds
the package; a build from an sdist has it from the sdist. Without one, links become plain text,
pictures within a line their captions, and others are left out with the credit below them.
"""

import os
import re
from email.parser import Parser
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

VARIABLE = "FOREMASK_REPOSITORY_URL"
_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#|mailto:)([^)]+)\)")
_PICTURE = re.compile(r"^!\[[^\]]*\]\([^)]+\)\n\n(?:\*Clip: .*\n\n)?", re.MULTILINE)


class PackageMetadata(MetadataHookInterface):
    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        root = Path(self.root)
        readme = (root / "README.md").read_text(encoding="utf-8")
        repository = repository_url(root)
        page = page_of(readme, repository, f"v{metadata['version']}")
        metadata["readme"] = {"content-type": "text/markdown", "text": page}
        metadata["urls"] = {}
        if repository:
            metadata["urls"] = {
                "Repository": repository,
                "Documentation": f"{repository}/tree/v{metadata['version']}/docs",
                "Changelog": f"{repository}/blob/v{metadata['version']}/CHANGELOG.md",
                "Issues": f"{repository}/issues",
            }


def repository_url(root: Path) -> str:
    named = os.environ.get(VARIABLE, "")
    of_sdist = root / "PKG-INFO"
    if not named and of_sdist.is_file():
        urls = Parser().parsestr(of_sdist.read_text(encoding="utf-8")).get_all("Project-URL", [])
        named = next((url.partition(", ")[2] for url in urls if url.startswith("Repository, ")), "")
    return named.rstrip("/")


def page_of(readme: str, repository: str, tag: str) -> str:
    def linked(found: re.Match[str]) -> str:
        picture, text, target = found.groups()
        if not repository:
            return f"*{text}*" if picture else text
        return f"{picture}[{text}]({repository}/{'raw' if picture else 'blob'}/{tag}/{target})"

    if not repository:
        readme = _PICTURE.sub("", readme)
    return _LINK.sub(linked, readme)

"""The trackers, which follow what a person marks or names, and the folders of their files."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from foremask.errors import ModelUnavailable
from foremask.machine import paths
from foremask.options import TrackerName

EXTRA: Final = "foremask[sam]"
_PACKAGES: Final = ("torch", "transformers")
_CONFIG: Final = "config.json"
_WEIGHTS: Final = ("model.safetensors", "model.safetensors.index.json")  # one file, or parts


@dataclass(frozen=True, slots=True)
class HubFiles:
    """The files of a network on the Hugging Face Hub, and the folder that they lie in here."""

    folder: str
    repository: str
    size_bytes: int
    licence: str

    @property
    def command(self) -> str:
        return f"hf download {self.repository} --include '*.json' '*.txt' '*.safetensors'"


_APACHE: Final = "Apache-2.0"
TRACKERS: Final[Mapping[TrackerName, HubFiles]] = {
    "sam2.1-tiny": HubFiles("sam2.1-tiny", "facebook/sam2.1-hiera-tiny", 156_000_000, _APACHE),
    "sam2.1-small": HubFiles("sam2.1-small", "facebook/sam2.1-hiera-small", 184_000_000, _APACHE),
    "sam2.1-base-plus": HubFiles(
        "sam2.1-base-plus", "facebook/sam2.1-hiera-base-plus", 323_000_000, _APACHE
    ),
    "sam2.1-large": HubFiles("sam2.1-large", "facebook/sam2.1-hiera-large", 898_000_000, _APACHE),
    "edgetam": HubFiles("edgetam", "yonigozlan/EdgeTAM-hf", 56_000_000, _APACHE),
    "sam3": HubFiles("sam3", "facebook/sam3", 3_440_000_000, "SAM License"),
}
WORDS: Final = HubFiles(
    "grounding-dino-tiny", "IDEA-Research/grounding-dino-tiny", 690_000_000, _APACHE
)
"""Grounding DINO, which finds the boxes of what words name."""


def folder_of(files: HubFiles, tracker_dir: Path | None) -> Path:
    """Return the folder with the files. Raises ModelUnavailable with the commands that are missing.

    ``tracker_dir`` is the folder of all trackers, by default the user's cache.
    """
    folder = (tracker_dir or paths.cache_dir()) / files.folder
    remedies = []
    if any(find_spec(name) is None for name in _PACKAGES):
        remedies.append(f"`pip install '{EXTRA}'` brings {' and '.join(_PACKAGES)}")
    has_weights = any((folder / name).is_file() for name in _WEIGHTS)
    if not has_weights or not (folder / _CONFIG).is_file():
        remedies.append(
            f"`{files.command} --local-dir {folder}` fetches its weights"
            f" ({files.size_bytes / 1e6:.0f} MB, {files.licence})"
        )
    if remedies:
        raise ModelUnavailable(f"{files.folder} is not here: {', then '.join(remedies)}")
    return folder


def readable_folders(names: tuple[TrackerName, ...], tracker_dir: Path) -> list[Path]:
    """The folders that a process reads which runs these trackers, with words."""
    return [folder_of(files, tracker_dir) for files in (*(TRACKERS[each] for each in names), WORDS)]

"""The trackers, which follow what a person marks or names, and the folders of their files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

from foremask.errors import ModelUnavailable
from foremask.machine import paths

TrackerName = Literal[
    "sam2.1-tiny", "sam2.1-small", "sam2.1-base-plus", "sam2.1-large", "edgetam", "sam3"
]
type WordsName = Literal["grounding-dino-tiny"]

TRACKER_NAMES: Final[tuple[TrackerName, ...]] = get_args(TrackerName)
WEIGHTS: Final = "model.safetensors"
_CONFIG: Final = "config.json"
_WEIGHTS: Final = (WEIGHTS, "model.safetensors.index.json")  # one file, or your own in parts
_HUB: Final = "https://huggingface.co"


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFiles:
    """The files of a network on the Hugging Face Hub, and the folder that they lie in here."""

    name: str
    """Of the network, and of the folder."""
    repository: str
    revision: str
    """The commit of the repository."""
    size_bytes: int
    """Of the weights, as is ``sha256``. The others are small."""
    sha256: str
    purpose: str = "follows what you mark: --tracker"
    licence: str = "Apache-2.0"
    is_gated: bool = False
    """Whether only accounts that the owner has let in may download it."""
    memory_bytes: int | None = None
    """The most memory of a process that runs the network on the CPU in 32 bits, as measured."""
    others: tuple[str, ...] = (_CONFIG,)
    """The files beside the weights: JSON and plain text."""

    @property
    def page(self) -> str:
        return f"{_HUB}/{self.repository}"

    def are_in(self, folder: Path) -> bool:
        """Return whether the weights and their configuration are there, these or your own."""
        has_weights = any((folder / name).is_file() for name in _WEIGHTS)
        return has_weights and (folder / _CONFIG).is_file()


_TRACKERS: Final = (
    HubFiles(
        name="sam2.1-tiny",
        repository="facebook/sam2.1-hiera-tiny",
        revision="de431c4043854a71d8101e17995dfe596bf101a5",
        size_bytes=155_908_064,
        sha256="48c14467e5cf9e51870511feb72c89688e82dd74523142c0538b663e193ac2a7",
        memory_bytes=1_610_000_000,
    ),
    HubFiles(
        name="sam2.1-small",
        repository="facebook/sam2.1-hiera-small",
        revision="ee5bba1d82bb8749febdf90f45e84b687142ba03",
        size_bytes=184_305_280,
        sha256="0a4067b11ce1e23d5229203f11c718a823060d15a4b23fa2372a7d4b77cbbc60",
    ),
    HubFiles(
        name="sam2.1-base-plus",
        repository="facebook/sam2.1-hiera-base-plus",
        revision="b7320756a13354e7530a63935656d35b2f91a290",
        size_bytes=323_476_296,
        sha256="2012733a0de5d03efd1bba550a2847c4551be9ef2e0d497c83074df66189f780",
    ),
    HubFiles(
        name="sam2.1-large",
        repository="facebook/sam2.1-hiera-large",
        revision="665f8e2ad61cf5f53d65644ff27c8ee525124610",
        size_bytes=897_897_416,
        sha256="dc407dce21301fd94abb395c5099b4f2c455fdc8a8f261ac3d0ea6d4cd197230",
    ),
    HubFiles(
        name="edgetam",
        repository="yonigozlan/EdgeTAM-hf",
        revision="c266ce53b3fc00f0f495b583f6a116c4e57f53bb",
        size_bytes=55_912_824,
        sha256="8858f8e4757b0b96dab8763f296ecffd845efbbbf698f64163cfa20a63d5fff4",
        memory_bytes=1_500_000_000,
    ),
    HubFiles(
        name="sam3",
        repository="facebook/sam3",
        revision="3c879f39826c281e95690f02c7821c4de09afae7",
        size_bytes=3_439_938_512,
        sha256="6d06f0a5f84e435071fe6603e61d0b4cc7b40e0d39d487cfd4d67d8cc11cc14a",
        licence="SAM License",
        is_gated=True,
    ),
)
WORDS: Final = HubFiles(
    name="grounding-dino-tiny",
    repository="IDEA-Research/grounding-dino-tiny",
    revision="a2bb814dd30d776dcf7e30523b00659f4f141c71",
    size_bytes=689_359_096,
    sha256="1a2412ef99bd74bcd3c2a246fa1e48581f8889a1300c9051974741314fc042f3",
    purpose="finds what words name, and a tracker follows it: --say",
    others=(
        _CONFIG,
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "vocab.txt",
    ),
)
"""Grounding DINO, which finds the boxes of what words name."""
HUB_FILES: Final[Mapping[str, HubFiles]] = {each.name: each for each in (*_TRACKERS, WORDS)}
"""All of them by name."""
TRACKERS: Final[Mapping[TrackerName, HubFiles]] = {name: HUB_FILES[name] for name in TRACKER_NAMES}


def folder_of(files: HubFiles, tracker_dir: Path | None) -> Path:
    """Return the folder with the files. Raises ModelUnavailable with the command that brings them.

    ``tracker_dir`` is the folder of all trackers, by default the user's cache.
    """
    folder = (tracker_dir or paths.cache_dir()) / files.name
    if not files.are_in(folder):
        gate = f", for accounts that {files.page} has let in" if files.is_gated else ""
        raise ModelUnavailable(
            f"{files.name} is not here: `foremask-trackers pull {files.name}` fetches its weights"
            f" ({files.size_bytes / 1e6:.0f} MB, {files.licence}{gate})"
        )
    return folder

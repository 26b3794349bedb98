"""Keys of stored objects, and what a key's name means."""

import re
from pathlib import Path

from foremask.options import MEDIA_TYPES

_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")

_KEPT_MASK = "/mask"


def checked_key(key: str) -> str:
    """The key; raises ValueError for text that is none."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"not an object key: {key!r}")
    return key


def media_type(key: str) -> str:
    """The media type of an object, by the suffix of its key."""
    return MEDIA_TYPES.get(Path(key).suffix, "application/octet-stream")


def network_key(result_key: str) -> str:
    """The key of a result's network cache, in the result's directory."""
    return result_key.rpartition("/")[0] + "/network.zip"


def strip_key(result_key: str) -> str:
    """The key of a mask's strip: in the mask's directory, so both are deleted together."""
    return result_key.rpartition("/")[0] + "/strip.json"


def mask_key(result_key: str) -> str:
    """The key of a cut-out's mask, deleted with the cut-out."""
    return result_key.rpartition("/")[0] + _KEPT_MASK


def is_kept_mask(key: str) -> bool:
    """Whether it is the key of a cut-out's mask, which has no link."""
    return key.startswith("results/") and key.endswith(_KEPT_MASK)

"""Keys of stored objects: what one may be, and what its name says."""

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
    """What a web server says of an object: it follows from the suffix of its key."""
    return MEDIA_TYPES.get(Path(key).suffix, "application/octet-stream")


def network_key(result_key: str) -> str:
    """The key of what the network said for a result: in its directory, as the strip."""
    return result_key.rpartition("/")[0] + "/network.zip"


def strip_key(result_key: str) -> str:
    """The key of a mask's strip: in the mask's directory, so both are deleted together."""
    return result_key.rpartition("/")[0] + "/strip.json"


def mask_key(result_key: str) -> str:
    """The key of the mask that a cut-out was made by: kept, and deleted, with the cut-out."""
    return result_key.rpartition("/")[0] + _KEPT_MASK


def is_kept_mask(key: str) -> bool:
    """Whether it is the key of a mask beside a cut-out, to which nobody gets a link."""
    return key.startswith("results/") and key.endswith(_KEPT_MASK)

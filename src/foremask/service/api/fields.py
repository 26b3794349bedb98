"""Fields that several bodies have: URLs and flags, or the exact reason why not."""

import re
from typing import Any, Final

from foremask.errors import FieldInvalid

MAX_URL_BYTES: Final = 8 << 10


def is_clean(url: str) -> bool:
    """Whether there is something in it, and neither blanks nor control characters."""
    return bool(url) and not re.search(r"[\x00-\x20\x7f\ud800-\udfff]", url)


def check_url(url: object, param: str) -> None:
    """Raise FieldInvalid for what is no string, no URL by its look, or too long."""
    if not isinstance(url, str) or not is_clean(url):
        raise FieldInvalid(f"{param} must be an http(s) URL.", param=param)
    if (size := len(url.encode())) > MAX_URL_BYTES:
        raise FieldInvalid(
            f"The URL in '{param}' has {size} bytes and may have {MAX_URL_BYTES}.",
            param=param,
            limit=MAX_URL_BYTES,
            actual=size,
        )


def flag(body: dict[str, Any], name: str, *, usual: bool = False) -> bool:
    """True or false, ``usual`` where the body does not say."""
    value = body.get(name)
    if value is None:
        return usual
    if not isinstance(value, bool):
        raise FieldInvalid(f"The field '{name}' must be true or false.", param=name)
    return value

"""Keys of stored objects, and the links and upload forms that our own API signs for them."""

import base64
import hashlib
import hmac
import re
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from foremask.errors import LinkInvalid
from foremask.options import MEDIA_TYPES

FILES_PATH = "/v2/files/"
FORM_PATH = "/v2/uploads"
STEP_S = 3600  # links made within the same hour are the same text

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


@dataclass(frozen=True, slots=True)
class Upload:
    """What an upload form allows: key, size, type, expiry."""

    key: str
    max_bytes: int
    media_type: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class Signer:
    """``base_url`` is where callers reach our API; all its processes share the key."""

    base_url: str
    _signing_key: bytes

    def link(self, key: str, expires_s: int, name: str = "") -> str:
        """A URL that reads the object for at least ``expires_s`` seconds, as a file ``name``."""
        expires_at = -(-(time.time() + expires_s) // STEP_S) * STEP_S
        query = {"expires": f"{expires_at:.0f}"}
        query["signature"] = self._signature("GET", key, query["expires"])
        if name:
            query["name"] = name
        return f"{self.base_url}{FILES_PATH}{quote(checked_key(key))}?{urlencode(query)}"

    def check_link(self, key: str, expires: str, signature: str) -> None:
        """Raise LinkInvalid unless `link` made this link and it has not expired."""
        self._check(signature, expires, "GET", key, expires)

    def key_of(self, url: str) -> str | None:
        """The key of one of our own links; None for any other URL.

        Raises LinkInvalid when it looks like ours and its signature or age is wrong.
        """
        if not url.startswith(self.base_url + FILES_PATH):
            return None
        parts = urlsplit(url)
        key = unquote(url.removeprefix(self.base_url + FILES_PATH).partition("?")[0])
        query = dict(parse_qsl(parts.query))
        self.check_link(key, query.get("expires", ""), query.get("signature", ""))
        return key

    def upload_form(self, upload: Upload) -> dict[str, str]:
        fields = {
            "key": checked_key(upload.key),
            "expires": str(upload.expires_at),
            "max_bytes": str(upload.max_bytes),
            "media_type": upload.media_type,
        }
        return {**fields, "signature": self._signature("POST", *fields.values())}

    def check_form(self, fields: dict[str, str]) -> Upload:
        """What the form's fields allow.

        Raises LinkInvalid unless `upload_form` made them and they have not expired.
        """
        values = [fields.get(name, "") for name in ("key", "expires", "max_bytes", "media_type")]
        self._check(fields.get("signature", ""), values[1], "POST", *values)
        return Upload(values[0], int(values[2]), values[3], int(values[1]))

    def _signature(self, *parts: str) -> str:
        message = "\n".join(("foremask-link-v1", *parts)).encode()
        digest = hmac.digest(self._signing_key, message, hashlib.sha256)
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def _check(self, signature: str, expires: str, *parts: str) -> None:
        if not hmac.compare_digest(self._signature(*parts).encode(), signature.encode()):
            raise LinkInvalid("The link is not one that this service has signed.")
        if int(expires) < time.time():  # signed by us, so it is a number
            raise LinkInvalid("The link has expired; ask for a fresh one.")

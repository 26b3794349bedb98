"""Stores files by key in a local directory or a cloud's bucket; the only module that uses obstore.

`Signer` signs links and upload forms of our API. `Objects.link` makes links that lead directly to a
cloud's bucket, if there is one (docs/adr/0030).
"""

import asyncio
import base64
import fcntl
import hashlib
import hmac
import os
import re
import secrets
import shutil
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import AzureStore, GCSStore, LocalStore, ObjectStore, S3Store, from_url

from foremask.errors import Busy, LinkInvalid, ObjectLost, ServiceUnavailable
from foremask.options import MEDIA_TYPES
from foremask.service.observability import metrics
from foremask.service.observability.traces import span

# A slow reader holds two blocks in memory; in a bucket, each block is a request.
LOCAL_BLOCK_BYTES = 64 << 10
BUCKET_BLOCK_BYTES = 256 << 10
# An upload holds one part in memory until the part is full.
LOCAL_PART_BYTES = 256 << 10
BUCKET_PART_BYTES = 5 << 20  # S3's least; it allows 10 000 parts, so a file may have 52 GB
PARTS_AT_ONCE = 3
RESERVE_BYTES = 2 << 30
RESERVE_SHARE = 0.05
_SIGNING_KEY = "signing-key"
_SIGNING_KEY_BYTES = 32
_HALF_WRITTEN = re.compile(r"#\d+$")
FILES_PATH = "/v2/files/"
FORM_PATH = "/v2/uploads"
STEP_S = 3600  # links expire at multiples of this, so that repeated links are equal (for caches)
NETWORK = "network.zip"
STRIP = "strip.json"
MASK = "mask"
_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")


def checked_key(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise ValueError(f"not an object key: {key!r}")
    return key


def media_type(key: str) -> str:
    return MEDIA_TYPES.get(Path(key).suffix, "application/octet-stream")


def sibling_key(result_key: str, name: str) -> str:
    return f"{result_key.rpartition('/')[0]}/{name}"


@dataclass(frozen=True, slots=True)
class Upload:
    """The signed fields of an upload form. Their order is part of the signature."""

    key: str
    expires: int  # Unix time
    max_bytes: int
    media_type: str  # "" allows every type


@dataclass(frozen=True, slots=True)
class Signer:
    base_url: str
    _signing_key: bytes

    def is_of(self, signing_key: bytes) -> bool:
        return hmac.compare_digest(self._signing_key, signing_key)

    def link(self, key: str, expires_s: int, name: str = "") -> str:
        """Return a URL that is valid for ``expires_s`` to ``expires_s + STEP_S`` seconds."""
        expires_at = -(-(time.time() + expires_s) // STEP_S) * STEP_S
        query = {"expires": f"{expires_at:.0f}"}
        query["signature"] = self._signature("GET", key, query["expires"])
        if name:
            query["name"] = name
        return f"{self.base_url}{FILES_PATH}{quote(checked_key(key))}?{urlencode(query)}"

    def check_link(self, key: str, expires: str, signature: str) -> None:
        """Raise LinkInvalid if the signature is wrong or the link has expired."""
        self._check(signature, expires, "GET", key, expires)

    def key_of(self, url: str) -> str | None:
        """Return the key of a link to our API, or None for another URL. Raises LinkInvalid."""
        if not url.startswith(self.base_url + FILES_PATH):
            return None
        parts = urlsplit(url)
        key = unquote(url.removeprefix(self.base_url + FILES_PATH).partition("?")[0])
        query = dict(parse_qsl(parts.query))
        self.check_link(key, query.get("expires", ""), query.get("signature", ""))
        return key

    def upload_form(self, upload: Upload) -> dict[str, str]:
        fields = {name: str(value) for name, value in asdict(upload).items()}
        return {**fields, "signature": self._signature("POST", *fields.values())}

    def check_form(self, fields: dict[str, str]) -> Upload:
        """Return the signed fields. Raises LinkInvalid if they are not ours or have expired."""
        key, expires, *rest = (fields.get(name, "") for name in Upload.__slots__)
        self._check(fields.get("signature", ""), expires, "POST", key, expires, *rest)
        return Upload(key, int(expires), int(rest[0]), rest[1])

    def _signature(self, *parts: str) -> str:
        message = "\n".join(("foremask-link-v1", *parts)).encode()
        digest = hmac.digest(self._signing_key, message, hashlib.sha256)
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def _check(self, signature: str, expires: str, *parts: str) -> None:
        if not hmac.compare_digest(self._signature(*parts).encode(), signature.encode()):
            raise LinkInvalid("The link is not one that this service has signed.")
        if int(expires) < time.time():  # the signature proves that it is a number
            raise LinkInvalid("The link has expired; ask for a fresh one.")


def check_free(directory: Path, size: int) -> None:
    """Raise storage_full if ``size`` bytes more would leave less free space than the reserve."""
    usage = shutil.disk_usage(directory)
    kept = min(int(RESERVE_SHARE * usage.total), RESERVE_BYTES)
    if usage.free - size < kept:
        raise Busy(
            f"The disk has {usage.free} bytes free; {size} are needed beside {kept} in reserve.",
            reason="storage_full",
            limit=kept,
            actual=usage.free,
        )


def make_local_key(path: Path) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as file:
        os.fchmod(file.fileno(), 0o600)  # the file of an earlier version may have another mode
        fcntl.flock(file, fcntl.LOCK_EX)  # several processes may start at the same time
        if not os.fstat(file.fileno()).st_size:
            file.write(secrets.token_bytes(_SIGNING_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())


def flush(root: Path, key: str) -> None:
    """Sync the file and two directories above it, so that the file survives a power cut."""
    path = root / key
    for each in (path, path.parent, path.parent.parent):
        fd = os.open(each, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def sweep_tree(top: Path, before: datetime) -> None:
    """Delete obstore's unfinished files and empty directories, if unchanged since ``before``."""
    for directory, _, files in os.walk(top, topdown=False):
        for name in files:
            path = Path(directory, name)
            with suppress(OSError):
                if _HALF_WRITTEN.search(name) and path.stat().st_mtime < before.timestamp():
                    path.unlink()
        with suppress(OSError):  # not empty, or already deleted
            if Path(directory).stat().st_mtime < before.timestamp():
                Path(directory).rmdir()


async def open_objects(url: str, base_url: str) -> "Objects":
    """Open the store at ``url``, for example ``file:///var/objects`` or ``s3://bucket/prefix``.

    ``base_url`` is our API's URL without a final slash. The signing key is an object in the store,
    so all processes share it. Raises ServiceUnavailable if the store does not respond, or if its
    key has another length than ours: with an empty one, anybody could sign links.
    """
    store = _store(url)
    with _translated(_SIGNING_KEY):
        if (root := _root(store)) is not None:
            await asyncio.to_thread(make_local_key, root / _SIGNING_KEY)
        try:
            signing_key = await _stored_key(store)
        except FileNotFoundError:
            with suppress(AlreadyExistsError):  # another process has stored the key
                fresh = secrets.token_bytes(_SIGNING_KEY_BYTES)
                await obstore.put_async(store, _SIGNING_KEY, fresh, mode="create")
            signing_key = await _stored_key(store)
    if len(signing_key) != _SIGNING_KEY_BYTES:
        raise ServiceUnavailable(
            f"The object {_SIGNING_KEY} in the object store has {len(signing_key)} bytes, not"
            f" {_SIGNING_KEY_BYTES}: restore it, or delete it, which ends the links that it signed."
        )
    return Objects(store, Signer(base_url, signing_key))


async def _stored_key(store: ObjectStore) -> bytes:
    stored = await obstore.get_async(store, _SIGNING_KEY)
    return bytes(await stored.bytes_async())


class Objects:
    """Stored files by key, for example ``results/ID/join-1/ID.mp4``.

    Reading a missing key raises ObjectLost. An invalid key raises ValueError, and a store that does
    not respond raises ServiceUnavailable.
    """

    def __init__(self, store: ObjectStore, signer: Signer) -> None:
        self._store = store
        self._root = _root(store)
        self.part_bytes = LOCAL_PART_BYTES
        self.block_bytes = LOCAL_BLOCK_BYTES
        if self._root is None:
            self.part_bytes = BUCKET_PART_BYTES
            self.block_bytes = BUCKET_BLOCK_BYTES
        self.signer = signer

    async def put(self, key: str, content: Path | AsyncIterable[bytes]) -> None:
        """Store a file or stream. After an error, nothing is stored."""
        name = key.rpartition("/")[2]
        described = {
            "Content-Type": media_type(key),
            "Content-Disposition": f'attachment; filename="{name}"',
        }
        with span("store"), _translated(key):
            await obstore.put_async(
                self._store,
                checked_key(key),
                content,
                attributes=described if self._root is None else None,
                chunk_size=self.part_bytes,
                max_concurrency=PARTS_AT_ONCE,
            )
            if self._root is not None:
                await asyncio.to_thread(flush, self._root, key)

    async def get(self, key: str, path: Path) -> None:
        """Copy the object to the file ``path``. After an error, the file may be incomplete."""
        with span("load"), path.open("wb") as file:
            async with aclosing(self.stream(key, block_bytes=self.part_bytes)) as blocks:
                async for block in blocks:
                    await asyncio.to_thread(file.write, block)

    async def stream(
        self,
        key: str,
        offset: int = 0,
        length: int | None = None,
        block_bytes: int | None = None,
    ) -> AsyncGenerator[bytes]:
        """Yield ``length`` bytes (by default, all to the end) from ``offset``, in blocks."""
        # One request for each block: a slow reader must not occupy a connection to the store.
        size = (await self.head(key))["size"]
        stop = size
        if length is not None:
            stop = min(offset + length, size)
        while offset < stop:
            asked = min(block_bytes or self.block_bytes, stop - offset)
            block = await self.read(key, offset, asked)
            if len(block) != asked:
                raise ObjectLost("The stored file changed while it was read.")
            yield block
            offset += asked

    async def read(self, key: str, offset: int, length: int) -> bytes:
        with _translated(key):
            block = await obstore.get_range_async(
                self._store, checked_key(key), start=offset, length=length
            )
        return bytes(block)

    async def head(self, key: str) -> "obstore.ObjectMeta":
        with _translated(key):
            return await obstore.head_async(self._store, checked_key(key))

    async def delete(self, *keys: str) -> None:
        for key in keys:
            with _translated(key), suppress(FileNotFoundError):
                await obstore.delete_async(self._store, checked_key(key))

    async def delete_under(self, prefix: str) -> None:
        async for stored in self.list(prefix):
            await self.delete(stored["path"])
        if self._root is not None:
            left = self._root / checked_key(prefix)  # obstore does not list unfinished files
            await asyncio.to_thread(shutil.rmtree, left, ignore_errors=True)

    async def delete_half_written(self, prefix: str, before: datetime) -> None:
        """Delete unfinished files of killed processes. Does nothing for a bucket."""
        if self._root is not None:
            await asyncio.to_thread(sweep_tree, self._root / checked_key(prefix), before)

    async def list(self, prefix: str) -> AsyncIterator["obstore.ObjectMeta"]:
        """Yield the objects whose keys begin with ``prefix/``, in any order."""
        with _translated(prefix):
            async for batch in obstore.list(self._store, prefix=checked_key(prefix)):
                for meta in batch:
                    if _KEY.fullmatch(meta["path"]):  # ignore files of other programs
                        yield meta

    async def check(self) -> None:
        """Raise ServiceUnavailable unless the store responds and has this process's signing key."""
        try:
            with _translated(_SIGNING_KEY):
                signing_key = await _stored_key(self._store)
        except ObjectLost:
            raise ServiceUnavailable("The object store has lost its signing key.") from None
        if not self.signer.is_of(signing_key):
            raise ServiceUnavailable(
                "The object store has another signing key than when this process started:"
                " restore the key, or restart all processes."
            )

    def disk(self) -> tuple[int, int] | None:
        """Return the total and free bytes of the disk, or None for a bucket."""
        if self._root is None:
            return None
        total, _, free = shutil.disk_usage(self._root)
        return total, free

    def check_free(self, size: int) -> None:
        if self._root is not None:
            check_free(self._root, size)

    def link(self, key: str, expires_s: int, name: str = "") -> str:
        """Return a URL of the object that is valid for at least ``expires_s`` seconds.

        A URL of a bucket is valid for at most 7 days. It allows GET but not HEAD, and ignores
        ``name``.
        """
        if isinstance(self._store, S3Store | GCSStore | AzureStore):
            return obstore.sign(self._store, "GET", checked_key(key), timedelta(seconds=expires_s))
        return self.signer.link(key, expires_s, name)


def _store(url: str) -> ObjectStore:
    if url.startswith("file:"):
        root = Path(unquote(urlsplit(url).path))
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        return LocalStore(root, automatic_cleanup=True)  # deletes empty directories
    return from_url(
        url,
        client_options={
            "allow_http": True,  # a store in the operator's network may lack https
            "connect_timeout": timedelta(seconds=5),
            "timeout": timedelta(seconds=60),
        },
        retry_config={"max_retries": 4, "retry_timeout": timedelta(seconds=30)},
    )


def _root(store: ObjectStore) -> Path | None:
    return Path(store.prefix) if isinstance(store, LocalStore) and store.prefix else None


@contextmanager
def _translated(key: str) -> Generator[None]:
    """Raise a ForemaskError instead of the store's error, whose text may contain credentials."""
    try:
        yield
    except FileNotFoundError as error:
        raise ObjectLost(f"The stored file {key} is no longer there.") from error
    except (BaseError, OSError) as error:
        metrics.OBJECT_ERRORS.inc()
        raise ServiceUnavailable("The object store does not answer; try again shortly.") from error

"""Put, get, list, delete and link stored files; the one home of obstore.

An address names the store: a local directory (``file:///var/lib/foremask/objects``),
``s3://bucket/prefix``, ``gs://`` or ``az://``, with the credentials of the cloud's own variables. A
cloud signs the links to its objects itself; a local directory cannot, so our own API serves what
`Objects.link` signs. Uploads come through our API whatever the store (docs/adr/0030).
"""

import asyncio
import base64
import hashlib
import hmac
import os
import re
import secrets
import shutil
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import AzureStore, GCSStore, LocalStore, ObjectStore, S3Store, from_url

from foremask.errors import LinkInvalid, ObjectLost, ServiceUnavailable, StorageFull
from foremask.options import MEDIA_TYPES
from foremask.service.observability import metrics

FILES_PATH = "/v2/files/"
FORM_PATH = "/v2/uploads"
BLOCK_BYTES = 1 << 20
PART_BYTES = 8 << 20  # 10 000 parts is S3's limit: files up to 80 GB
PARTS_AT_ONCE = 3
RESERVE_BYTES = 2 << 30
FULL_RETRY_S = 60.0
STEP_S = 3600  # links made within the same hour are the same text

_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_HALF_WRITTEN = re.compile(r"#\d+$")
_SIGNING_KEY = "signing-key"
_CHANGED = "The stored file changed while it was read."


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store says of an object; ``etag`` with its quotes."""

    key: str
    size: int
    etag: str
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class Upload:
    """What a form may put: where, how much, of what type, until when."""

    key: str
    max_bytes: int
    media_type: str
    expires_at: int


def check_free(directory: Path, size: int, reserve: int | None) -> None:
    """Raise StorageFull unless the directory's disk has ``size`` bytes more than the reserve."""
    usage = shutil.disk_usage(directory)
    kept = min(usage.total // 20, RESERVE_BYTES) if reserve is None else reserve
    if usage.free - size < kept:
        error = StorageFull(
            f"The disk has {usage.free} bytes free; {size} are needed beside the reserve of {kept}. Try again later.",
            limit=kept,
            actual=usage.free,
        )
        error.retry_after_s = FULL_RETRY_S
        raise error


def local_url(directory: Path) -> str:
    """The address of a store in a local directory."""
    return directory.absolute().as_uri()


def media_type(key: str) -> str:
    """What a web server says of an object: told by the ending of its key."""
    return MEDIA_TYPES.get(Path(key).suffix, "application/octet-stream")


def strip_key(result_key: str) -> str:
    """Where the strip of a mask is: beside it, and gone with it."""
    return result_key.rpartition("/")[0] + "/strip.json"


async def open_objects(url: str, base_url: str) -> "Objects":
    """The store at ``url``; ``base_url`` is where callers reach our API, without a slash at its end.

    The key that signs links is kept in the store itself, so that all who share one share the other.
    Raises ServiceUnavailable when the store does not answer.
    """
    store = _store(url)
    with _translated(_SIGNING_KEY):
        if isinstance(store, LocalStore):
            await asyncio.to_thread(_make_local_key, _root(store) / _SIGNING_KEY)
        try:
            secret = await obstore.get_async(store, _SIGNING_KEY)
        except FileNotFoundError:
            with suppress(AlreadyExistsError):  # another process was first
                await obstore.put_async(store, _SIGNING_KEY, secrets.token_bytes(32), mode="create")
            secret = await obstore.get_async(store, _SIGNING_KEY)
        return Objects(store, base_url, bytes(await secret.bytes_async()))


class Objects:
    """Immutable files under keys such as ``results/ID/1/ID.mp4``; nothing of theirs is held in memory.

    Every method raises ObjectLost for a key that is not there, and ServiceUnavailable when the
    store does not answer.
    """

    def __init__(self, store: ObjectStore, base_url: str, signing_key: bytes) -> None:
        self._store = store
        self.base_url = base_url
        self._signing_key = signing_key

    async def put(self, key: str, path: Path) -> Stored:
        """Store the file at ``path``: all of it at once, or nothing."""
        return await self._put(key, path)

    async def put_stream(self, key: str, chunks: AsyncIterable[bytes]) -> Stored:
        """Store what ``chunks`` gives; an exception from it leaves nothing behind."""
        return await self._put(key, chunks)

    async def _put(self, key: str, content: Path | AsyncIterable[bytes]) -> Stored:
        described = {} if self.is_local else _described(key)
        with _translated(key):
            await obstore.put_async(
                self._store,
                _checked(key),
                content,
                attributes=described or None,
                chunk_size=PART_BYTES,
                max_concurrency=PARTS_AT_ONCE,
            )
        if isinstance(self._store, LocalStore):
            await asyncio.to_thread(_flush, _root(self._store), key)
        return await self.head(key)

    async def get(self, key: str, path: Path) -> None:
        """Write the object to ``path``, which appears when it is complete."""
        part = path.with_name(path.name + ".part")
        try:
            stop = (await self.head(key)).size
            blocks = self._blocks(key, 0, stop, PART_BYTES, PARTS_AT_ONCE)
            with part.open("wb") as file:
                async with aclosing(blocks):
                    async for block in blocks:
                        await asyncio.to_thread(file.write, block)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    async def stream(
        self, key: str, offset: int = 0, length: int | None = None
    ) -> AsyncGenerator[bytes]:
        """The object's bytes from ``offset`` on, ``length`` of them or all, in blocks.

        Each block is a request of its own: a slow reader costs the store no open connection.
        """
        stored = await self.head(key)
        stop = stored.size if length is None else min(offset + length, stored.size)
        async with aclosing(self._blocks(key, offset, stop, BLOCK_BYTES, 1)) as blocks:
            async for block in blocks:
                yield block

    async def _blocks(
        self, key: str, offset: int, stop: int, block_bytes: int, at_once: int
    ) -> AsyncGenerator[bytes]:
        """The bytes from ``offset`` to ``stop`` in order, ``at_once`` blocks of them asked for ahead."""
        asked: deque[tuple[int, asyncio.Task[bytes]]] = deque()
        try:
            while offset < stop or asked:
                while offset < stop and len(asked) < at_once:
                    size = min(block_bytes, stop - offset)
                    asked.append((size, asyncio.create_task(self.read(key, offset, size))))
                    offset += size
                size, reading = asked[0]
                block = await reading
                asked.popleft()
                if len(block) != size:
                    raise ObjectLost(_CHANGED)
                yield block
        finally:
            for _, reading in asked:
                reading.cancel()
            await asyncio.gather(*(reading for _, reading in asked), return_exceptions=True)

    async def read(self, key: str, offset: int, length: int) -> bytes:
        """``length`` bytes from ``offset``, which lies inside the object; fewer at its end."""
        with _translated(key):
            block = await obstore.get_range_async(
                self._store, _checked(key), start=offset, length=length
            )
        return bytes(block)

    async def head(self, key: str) -> Stored:
        """Size, ETag and age of an object."""
        with _translated(key):
            meta = await obstore.head_async(self._store, _checked(key))
        return _stored(meta)

    async def delete(self, *keys: str) -> None:
        """Delete these objects; one that is not there is as good as deleted."""
        for key in keys:
            with _translated(key), suppress(FileNotFoundError):
                await obstore.delete_async(self._store, _checked(key))

    async def delete_under(self, prefix: str) -> int:
        """Delete every object below ``prefix``; how many there were.

        In a local store the directory goes too, with what a killed process has half written there.
        """
        count = 0
        async for stored in self.list(prefix):
            await self.delete(stored.key)
            count += 1
        if isinstance(self._store, LocalStore):
            left = _root(self._store) / _checked(prefix)
            await asyncio.to_thread(shutil.rmtree, left, ignore_errors=True)
        return count

    async def delete_half_written(self, prefix: str, before: datetime) -> None:
        """Delete what killed processes have half written below ``prefix`` in a local store.

        A bucket has a rule of its own for uploads that were never completed: docs/operations.md.
        """
        if isinstance(self._store, LocalStore):
            await asyncio.to_thread(_sweep_tree, _root(self._store) / _checked(prefix), before)

    async def list(self, prefix: str) -> AsyncIterator[Stored]:
        """Every object below ``prefix``, in no order."""
        with _translated(prefix):
            async for batch in obstore.list(self._store, prefix=_checked(prefix)):
                for meta in batch:
                    yield _stored(meta)

    async def check(self) -> None:
        """Raise ServiceUnavailable unless the store answers and still has our signing key."""
        try:
            await self.head(_SIGNING_KEY)
        except ObjectLost:
            raise ServiceUnavailable("The object store has lost its signing key.") from None

    def disk(self) -> tuple[int, int] | None:
        """Size and free bytes of a local store's disk; None for a bucket."""
        if not isinstance(self._store, LocalStore):
            return None
        usage = shutil.disk_usage(_root(self._store))
        return usage.total, usage.free

    def check_free(self, size: int, reserve: int | None) -> None:
        """Raise StorageFull unless a local store's disk has ``size`` bytes more than the reserve.

        None reserves a twentieth of the disk, 2 GiB at most.
        """
        if isinstance(self._store, LocalStore):
            check_free(_root(self._store), size, reserve)

    @property
    def is_local(self) -> bool:
        """Whether our own API serves the links."""
        return isinstance(self._store, LocalStore)

    def link(self, key: str, expires_s: int) -> str:
        """A URL that reads the object, for at least ``expires_s`` seconds (a cloud gives at most a week).

        A cloud's link takes GET only; ours takes HEAD too.
        """
        if isinstance(self._store, S3Store | GCSStore | AzureStore):
            return obstore.sign(self._store, "GET", _checked(key), timedelta(seconds=expires_s))
        return self.own_link(key, expires_s)

    def own_link(self, key: str, expires_s: int) -> str:
        """As `link`, served by our own API whatever the store."""
        expires_at = -(-(time.time() + expires_s) // STEP_S) * STEP_S
        query = {"expires": f"{expires_at:.0f}"}
        query["signature"] = self._signature("GET", key, query["expires"])
        return f"{self.base_url}{FILES_PATH}{quote(_checked(key))}?{urlencode(query)}"

    def check_link(self, key: str, expires: str, signature: str) -> None:
        """Raise LinkInvalid unless `own_link` made this link and it has not expired."""
        self._check(signature, expires, "GET", key, expires)

    def key_of(self, url: str) -> str | None:
        """The key behind one of our own links; None for any other URL.

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
        """The fields that a form must carry to make this upload."""
        fields = {
            "key": _checked(upload.key),
            "expires": str(upload.expires_at),
            "max_bytes": str(upload.max_bytes),
            "media_type": upload.media_type,
        }
        return {**fields, "signature": self._signature("POST", *fields.values())}

    def check_form(self, fields: dict[str, str]) -> Upload:
        """What the fields allow. Raises LinkInvalid unless `upload_form` made them and they are fresh."""
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


def _store(url: str) -> ObjectStore:
    if url.startswith("file:"):
        root = Path(unquote(urlsplit(url).path))
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        return LocalStore(root, automatic_cleanup=True)  # of directories that have become empty
    return from_url(
        url,
        client_options={
            "allow_http": True,  # for an endpoint of the operator's own; the clouds' are https
            "connect_timeout": timedelta(seconds=5),
            "timeout": timedelta(seconds=60),
        },
        retry_config={"max_retries": 4, "retry_timeout": timedelta(seconds=30)},
    )


def _described(key: str) -> dict[str, str]:
    """What a cloud is to say when it serves the object itself."""
    name = key.rpartition("/")[2]
    return {
        "Content-Type": media_type(key),
        "Content-Disposition": f'attachment; filename="{name}"',
    }


def _root(store: LocalStore) -> Path:
    if store.prefix is None:
        raise ServiceUnavailable("The local store has no directory.")
    return Path(store.prefix)


def _make_local_key(path: Path) -> None:
    """Make the key where there is none; no other user can read it at any time."""
    if path.exists():
        path.chmod(0o600)  # earlier versions left it as the umask would have it
        return
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
            opened.write(secrets.token_bytes(32))
            opened.flush()
            os.fsync(opened.fileno())
        try:
            os.link(part, path)
        except FileExistsError:  # another process was first
            return
        except OSError:  # a file system without hard links
            part.rename(path)
    finally:
        part.unlink(missing_ok=True)


def _flush(root: Path, key: str) -> None:
    """Bring the file and the names that lead to it on to the disk: a finished job survives a power cut."""
    path = root / key
    for each in (path, path.parent, path.parent.parent):
        fd = os.open(each, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _sweep_tree(top: Path, before: datetime) -> None:
    """Remove old files that obstore had not yet given their names, and directories with nothing in them."""
    for directory, _, files in os.walk(top, topdown=False):
        for name in files:
            path = Path(directory, name)
            with suppress(OSError):
                if _HALF_WRITTEN.search(name) and path.stat().st_mtime < before.timestamp():
                    path.unlink()
        with suppress(OSError):  # there is something in it, or it is new
            if Path(directory).stat().st_mtime < before.timestamp():
                Path(directory).rmdir()


def _checked(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise ValueError(f"not an object key: {key!r}")
    return key


def _stored(meta: "obstore.ObjectMeta") -> Stored:
    return Stored(meta["path"], meta["size"], meta["e_tag"] or '""', meta["last_modified"])


@contextmanager
def _translated(key: str) -> Generator[None]:
    """Turn the store's errors into ours; addresses and credentials stay in the cause."""
    try:
        yield
    except FileNotFoundError as error:
        raise ObjectLost(f"The stored file {key} is no longer there.") from error
    except (BaseError, OSError) as error:
        metrics.OBJECT_ERRORS.inc()
        raise ServiceUnavailable("The object store does not answer; try again shortly.") from error

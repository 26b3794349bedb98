"""Store, read, list and delete files by key; the one home of obstore.

An address names the store: a local directory (``file:///var/lib/foremask/objects``),
``s3://bucket/prefix``, ``gs://`` or ``az://``, with the credentials of the cloud's own variables. A
cloud signs the links to its objects itself; for a local directory signing.py does, and our API
serves them. Uploads come through our API whatever the store (docs/adr/0030).
"""

import asyncio
import secrets
import shutil
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import AzureStore, GCSStore, LocalStore, ObjectStore, S3Store, from_url

from foremask.errors import ObjectLost, ServiceUnavailable
from foremask.service.observability import metrics
from foremask.service.storage.keys import checked_key, media_type
from foremask.service.storage.local_directory import check_free, flush, make_local_key, sweep_tree
from foremask.service.storage.signing import Signer

BLOCK_BYTES = 1 << 20
PART_BYTES = 8 << 20  # 10 000 parts is S3's limit: files up to 80 GB
PARTS_AT_ONCE = 3

_SIGNING_KEY = "signing-key"
_CHANGED = "The stored file changed while it was read."


@dataclass(frozen=True, slots=True)
class Stored:
    """Size, ETag (with its quotes) and age of an object."""

    key: str
    size: int
    etag: str
    modified_at: datetime


async def open_objects(url: str, base_url: str) -> "Objects":
    """The store at ``url``; ``base_url`` is where callers reach our API, without a final slash.

    The key that signs links is kept in the store, so all processes that share it share the key.
    Raises ServiceUnavailable when the store does not answer.
    """
    store = _store(url)
    with _translated(_SIGNING_KEY):
        if isinstance(store, LocalStore):
            await asyncio.to_thread(make_local_key, _root(store) / _SIGNING_KEY)
        try:
            secret = await obstore.get_async(store, _SIGNING_KEY)
        except FileNotFoundError:
            with suppress(AlreadyExistsError):  # another process was first
                await obstore.put_async(store, _SIGNING_KEY, secrets.token_bytes(32), mode="create")
            secret = await obstore.get_async(store, _SIGNING_KEY)
        return Objects(store, Signer(base_url, bytes(await secret.bytes_async())))


class Objects:
    """Immutable files under keys such as ``results/ID/1/ID.mp4``; none is ever held in memory.

    Every method raises ObjectLost for a key that is not there, and ServiceUnavailable when the
    store does not answer.
    """

    def __init__(self, store: ObjectStore, signer: Signer) -> None:
        self._store = store
        self.signer = signer

    async def put(self, key: str, content: Path | AsyncIterable[bytes]) -> Stored:
        """Store a file, or what chunks give: all of it at once, or nothing."""
        described = {} if self.is_local else _described(key)
        with _translated(key):
            await obstore.put_async(
                self._store,
                checked_key(key),
                content,
                attributes=described or None,
                chunk_size=PART_BYTES,
                max_concurrency=PARTS_AT_ONCE,
            )
        if isinstance(self._store, LocalStore):
            await asyncio.to_thread(flush, _root(self._store), key)
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
        """The bytes from ``offset`` to ``stop`` in order; ``at_once`` blocks are read ahead."""
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
                self._store, checked_key(key), start=offset, length=length
            )
        return bytes(block)

    async def head(self, key: str) -> Stored:
        with _translated(key):
            meta = await obstore.head_async(self._store, checked_key(key))
        return _stored(meta)

    async def delete(self, *keys: str) -> None:
        """Delete these objects; one that is not there is as good as deleted."""
        for key in keys:
            with _translated(key), suppress(FileNotFoundError):
                await obstore.delete_async(self._store, checked_key(key))

    async def delete_under(self, prefix: str) -> int:
        """Delete every object below ``prefix``; how many there were.

        In a local store the directory goes too, with what a killed process has half written there.
        """
        count = 0
        async for stored in self.list(prefix):
            await self.delete(stored.key)
            count += 1
        if isinstance(self._store, LocalStore):
            left = _root(self._store) / checked_key(prefix)
            await asyncio.to_thread(shutil.rmtree, left, ignore_errors=True)
        return count

    async def delete_half_written(self, prefix: str, before: datetime) -> None:
        """Delete what killed processes have half written; a bucket needs a lifecycle rule."""
        if isinstance(self._store, LocalStore):
            await asyncio.to_thread(sweep_tree, _root(self._store) / checked_key(prefix), before)

    async def list(self, prefix: str) -> AsyncIterator[Stored]:
        """Every object below ``prefix``, in no order."""
        with _translated(prefix):
            async for batch in obstore.list(self._store, prefix=checked_key(prefix)):
                for meta in batch:
                    yield _stored(meta)

    async def check(self) -> None:
        """Raise ServiceUnavailable unless the store answers and still has our signing key."""
        try:
            await self.head(_SIGNING_KEY)
        except ObjectLost:
            raise ServiceUnavailable("The object store has lost its signing key.") from None

    def disk(self) -> tuple[int, int] | None:
        if not isinstance(self._store, LocalStore):
            return None
        usage = shutil.disk_usage(_root(self._store))
        return usage.total, usage.free

    def check_free(self, size: int) -> None:
        """As `local_directory.check_free`, of a local store's disk; a bucket is never full."""
        if isinstance(self._store, LocalStore):
            check_free(_root(self._store), size)

    @property
    def is_local(self) -> bool:
        """Whether our own API serves the links."""
        return isinstance(self._store, LocalStore)

    def link(self, key: str, expires_s: int, name: str = "") -> str:
        """A URL that reads the object for at least ``expires_s`` seconds (a cloud allows a week).

        A cloud's link takes GET only and names no file; ours takes HEAD too.
        """
        if isinstance(self._store, S3Store | GCSStore | AzureStore):
            return obstore.sign(self._store, "GET", checked_key(key), timedelta(seconds=expires_s))
        return self.signer.link(key, expires_s, name)


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
    name = key.rpartition("/")[2]
    return {
        "Content-Type": media_type(key),
        "Content-Disposition": f'attachment; filename="{name}"',
    }


def _root(store: LocalStore) -> Path:
    if store.prefix is None:
        raise ServiceUnavailable("The local store has no directory.")
    return Path(store.prefix)


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

"""Opens the file that keeps the network's results of a clip."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Final

from foremask.errors import FieldInvalid
from foremask.facts import Span
from foremask.options import JobSpec, Resources, unfinished_cache
from foremask.pipeline.clip_file import ClipFile
from foremask.pipeline.networks import network_for
from foremask.vision.network.kept_results import FileStore, NotACacheError, open_file_store
from foremask.vision.network.network_cache import NetworkCache
from foremask.vision.temporal.tier import TIERS
from foremask.weights.catalogue import model_path, sha256_of, spec_of

_MOST_BYTES: Final = 4 << 30  # limit for all caches in a directory
_SUFFIX: Final = ".cache"


@contextmanager
def opened_cache(
    path: Path | None, source: Path, spec: JobSpec, resources: Resources, span: Span | None = None
) -> Iterator[NetworkCache | None]:
    """Open the cache of network results at ``path``, or yield None if this is None.

    A file has the results for one clip or excerpt, quality, network and foremask version. A file
    with other results is replaced. A directory has a file for each combination; above 4 GiB
    in total, the least recently used files are deleted. A run that is stopped leaves a second file,
    ``.unfinished``, until the next run ends. Raises FieldInvalid if the file is no cache, and
    ModelUnavailable if the network's weights are missing.
    """
    if path is None:
        yield None
        return
    clip_file = ClipFile(source)
    identity = _identity(source, spec, resources, span)
    in_folder = path.is_dir()
    if in_folder:
        name = hashlib.blake2b(json.dumps(identity).encode(), digest_size=16).hexdigest()
        path /= f"{name}{_SUFFIX}"
    most_bytes = resources.cache_bytes
    unfinished = unfinished_cache(path)
    try:
        with ExitStack() as held:
            store = _opened_store(held, path, identity, most_bytes, replaces=in_folder)
            features = _opened_store(held, unfinished, identity, most_bytes, replaces=True)
            held.callback(_drop_if_changed, clip_file, store, features)
            cache = NetworkCache(store, features)
            yield cache
            if cache.is_complete:
                features.drop()
                unfinished.unlink(missing_ok=True)
    except NotACacheError as error:
        remedy = "name another one"
        if in_folder:  # else each later run would fail too
            remedy = "they were deleted: run it again"
            with suppress(OSError):
                path.unlink(missing_ok=True)
                unfinished.unlink(missing_ok=True)
        raise FieldInvalid(f"{error}; {remedy}", param="cache") from None
    finally:
        if in_folder:
            with suppress(OSError):
                os.utime(path)  # time of the last use
            _trim(path.parent)


def _drop_if_changed(clip_file: ClipFile, *stores: FileStore) -> None:
    """Keep nothing of a clip that is another now under the hash of what it was."""
    if clip_file.has_changed:
        for store in stores:
            store.drop()


def _identity(
    source: Path, spec: JobSpec, resources: Resources, span: Span | None
) -> dict[str, str]:
    """What a cache of network results depends on."""
    model = resources.model or model_path()
    return {
        "foremask": version("foremask"),
        "source": sha256_of(source),
        "model": _model_digest(model, model.stat().st_mtime_ns),
        "spec": repr(spec_of(model)),
        "runtime": network_for(resources).runtime,
        "tier": repr(TIERS[spec.quality]),
        "part": repr((spec.excerpt, span)),
    }


def _opened_store(
    held: ExitStack, path: Path, identity: Mapping[str, object], most_bytes: int, *, replaces: bool
) -> FileStore:
    try:
        return held.enter_context(open_file_store(path, identity, most_bytes))
    except NotACacheError:
        if not replaces:
            raise
        with suppress(OSError):
            path.unlink()
        return held.enter_context(open_file_store(path, identity, most_bytes))


def _trim(directory: Path) -> None:
    """Delete the least recently used caches until the rest has at most `_MOST_BYTES`."""
    caches = []
    for each in directory.glob(f"*{_SUFFIX}*"):
        with suppress(FileNotFoundError):  # another process may have deleted it
            caches.append((each.stat(), each))
    total = sum(status.st_size for status, _ in caches)
    for status, path in sorted(caches, key=lambda each: each[0].st_mtime_ns):
        if total <= _MOST_BYTES:
            return
        with suppress(OSError):
            path.unlink()
            total -= status.st_size


@lru_cache(maxsize=4)
def _model_digest(path: Path, _changed_at: int) -> str:
    return sha256_of(path)

"""Loads the network of a masking, and keeps the network's results for a later run over the clip."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Final

import foremask
from foremask.errors import FieldInvalid
from foremask.facts import Span
from foremask.options import MaskOptions
from foremask.vision.network.devices import network_at
from foremask.vision.network.session import Network
from foremask.vision.temporal.network_cache import (
    NetworkCache,
    NotACacheError,
    lock_of,
    open_file_store,
)
from foremask.vision.temporal.tier import TIERS
from foremask.weights.catalogue import model_path, spec_of

_MOST_BYTES: Final = 4 << 30
"""The limit of the sum of all caches in a directory."""
_SUFFIX: Final = ".cache"


def network_for(options: MaskOptions) -> Network:
    return network_at(options.model or model_path(), options.device)


@contextmanager
def opened_cache(
    source: Path, options: MaskOptions, span: Span | None = None
) -> Iterator[NetworkCache | None]:
    """Open the cache at ``options.cache``; yield None without a cache.

    A file holds the results of one clip, part, quality, network and version of foremask; a file
    with other results is replaced. A directory has a file for each combination; above 4 GiB in
    all, the least recently used files are removed. Raises FieldInvalid where the file is no cache,
    and ModelUnavailable.
    """
    path = options.cache
    if path is None:
        yield None
        return
    model = options.model or model_path()
    identity = {
        "foremask": foremask.__version__,
        "source": _digest(source),
        "model": _model_digest(model, model.stat().st_mtime_ns),
        "spec": repr(spec_of(model)),
        "runtime": network_for(options).runtime,
        "tier": repr(TIERS[options.quality]),
        "part": repr((options.excerpt, span)),
    }
    in_folder = path.is_dir()
    if in_folder:
        name = hashlib.blake2b(json.dumps(identity).encode(), digest_size=16).hexdigest()
        path /= f"{name}{_SUFFIX}"
    try:
        with ExitStack() as held:
            try:
                store = held.enter_context(open_file_store(path, identity, options.cache_bytes))
            except NotACacheError:
                if not in_folder:
                    raise
                with suppress(OSError):
                    path.unlink()
                store = held.enter_context(open_file_store(path, identity, options.cache_bytes))
            yield NetworkCache(store)
    except NotACacheError as error:
        raise FieldInvalid(f"{error}; name another one", param="cache") from None
    if in_folder:
        with suppress(OSError):
            os.utime(path)  # the time of its last use
        _trim(path.parent)


def _trim(directory: Path) -> None:
    """Remove the least recently used caches until the rest fits; caches in use stay."""
    caches = []
    for each in directory.glob(f"*{_SUFFIX}"):
        with suppress(FileNotFoundError):  # another process may remove some meanwhile
            caches.append((each.stat(), each))
    total = sum(status.st_size for status, _ in caches)
    for status, path in sorted(caches, key=lambda each: each[0].st_mtime_ns):
        if total <= _MOST_BYTES:
            return
        with suppress(OSError), lock_of(path):
            path.unlink()
            total -= status.st_size


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


@lru_cache(maxsize=4)
def _model_digest(path: Path, _changed_at: int) -> str:
    return _digest(path)

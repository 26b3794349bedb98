"""Opens the cache of a clip's network results, for a later run with more hints."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import foremask
from foremask.errors import FieldInvalid
from foremask.facts import Span
from foremask.options import MaskOptions
from foremask.vision.network.devices import network_at
from foremask.vision.temporal.network_cache import NetworkCache, NotACacheError, open_file_store
from foremask.vision.temporal.tier import TIERS
from foremask.weights.catalogue import model_path, spec_of


@contextmanager
def opened_cache(
    source: Path, options: MaskOptions, span: Span | None = None
) -> Iterator[NetworkCache | None]:
    """The cache in ``options.cache``; None where none is asked for.

    Results of another clip, part, quality, network or version of foremask are ignored and replaced.
    Raises FieldInvalid where the file is something else, and ModelUnavailable.
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
        "runtime": network_at(model, options.device).runtime,
        "tier": repr(TIERS[options.quality]),
        "part": repr((options.excerpt, options.max_side_px, span)),
    }
    try:
        with open_file_store(path, identity, options.cache_bytes) as store:
            yield NetworkCache(store)
    except NotACacheError as error:
        raise FieldInvalid(f"{error}; name another one", param="cache") from None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


@lru_cache(maxsize=4)
def _model_digest(path: Path, _changed_at: int) -> str:
    return _digest(path)

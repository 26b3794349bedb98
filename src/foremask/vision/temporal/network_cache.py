"""The network's results on a clip, kept for a later run over the same clip.

A run with hints starts from the results without them: which frames are anchors, their opinions,
the classifier's logits, and each crop. Those are read from here, so hints cost no inference
where they change nothing. Masks are the same with and without it: docs/adr/0050.
"""

import errno
import fcntl
import hashlib
import io
import json
import logging
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from foremask.types import Image, Levels
from foremask.vision.network.opinions import CropBox, View, ask, infer_part
from foremask.vision.network.session import Network
from foremask.vision.resample import as_levels

CODE: Final = Path(__file__).parents[1]
"""It decides what is kept: which frames are anchors, and how the classifier learns."""
ALWAYS: Final = -1.0  # below every uncertainty
_IDENTITY: Final = "identity.json"
_COMPLETE: Final = "complete"
_MOST_IDENTITY_BYTES: Final = 64 << 10
_UNREADABLE: Final = (
    *(zipfile.BadZipFile, zlib.error, OSError, EOFError, KeyError, ValueError),
    RuntimeError,  # encrypted, or of a version or by a method that Python does not know
)
MOST_ARRAY_BYTES: Final = 16 << 20  # the largest, logits of all anchors of a window, has 13 MiB

log = logging.getLogger(__name__)

type Planes = NDArray[Any]


class NotACacheError(Exception):
    """The file is not a store."""


class MemoryStore:
    """Arrays by name, in memory."""

    def __init__(self) -> None:
        self._arrays: dict[str, Planes] = {}

    def get(self, name: str) -> Planes | None:
        """None where there is none of this name."""
        return self._arrays.get(name)

    def put(self, name: str, planes: Planes) -> None:
        """Keep an array; one of that name stays as it is."""
        self._arrays.setdefault(name, planes)


class FileStore:
    """As `MemoryStore`, in a ZIP file, which `open_file_store` opens.

    It is optional: where the disk or ``most_bytes`` has no more room, that is logged once, and
    nothing more is kept.
    """

    def __init__(self, most_bytes: int) -> None:
        self._archive: zipfile.ZipFile | None = None
        self._file: IO[bytes]  # of the archive
        self._most_bytes = most_bytes
        self._names: set[str] = set()
        self._bytes = 0
        self.has_failed = False

    def open(self, path: Path, identity: str, known: Path | None) -> None:
        """Begin the file at ``path``, with all that is in the store ``known``."""
        with self._left_out_where_it_fails():
            if known is not None:
                shutil.copyfile(known, path)
            self._file = path.open("w+b" if known is None else "r+b")
            archive = zipfile.ZipFile(self._file, "w" if known is None else "a")
            self._archive = archive
            if known is None:
                archive.writestr(_IDENTITY, identity)
            self._names = set(archive.namelist())
            self._bytes = sum(each.compress_size for each in archive.infolist())

    def close(self) -> None:
        """Write the directory of the file; later calls do nothing."""
        if self._archive is not None:
            archive, self._archive = self._archive, None
            with self._left_out_where_it_fails(), self._file:
                archive.close()

    def get(self, name: str) -> Planes | None:
        if name not in self._names or self._archive is None:
            return None
        try:
            with self._archive.open(name) as file:
                return _array_of(file.read(MOST_ARRAY_BYTES + 1))
        except _UNREADABLE:
            raise NotACacheError(f"the kept network results are damaged at {name}") from None

    def put(self, name: str, planes: Planes) -> None:
        if name in self._names or self.has_failed or self._archive is None:
            return
        buffer = io.BytesIO()
        np.save(buffer, planes, allow_pickle=False)
        written = buffer.getvalue()
        if len(written) > min(MOST_ARRAY_BYTES, self._most_bytes - self._bytes):
            self.fail(f"they take more than {self._most_bytes} bytes")
            return
        how = zipfile.ZIP_DEFLATED if planes.dtype == np.uint8 else zipfile.ZIP_STORED
        try:
            self._archive.writestr(name, written, how, compresslevel=1)
            self._file.flush()
        except OSError as error:
            self.fail(error.strerror)
            with suppress(OSError):  # else what it refused would be written again at each read
                self._file.close()
            self._archive.fp = self._file = Path(self._file.name).open("rb")  # noqa: SIM115
            return
        self._names.add(name)
        self._bytes += self._archive.getinfo(name).compress_size

    @contextmanager
    def _left_out_where_it_fails(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.fail(error.strerror)

    def fail(self, why: str | None) -> None:
        """Keep nothing more; the first time that is logged."""
        if not self.has_failed:
            log.warning("the network results are not kept: %s", why)
        self.has_failed = True


type Store = MemoryStore | FileStore


def _array_of(data: bytes) -> Planes:
    """The array in an .npy file, whose header may lie; ValueError where it does."""
    if len(data) > MOST_ARRAY_BYTES:
        raise ValueError(f"an array has more than {MOST_ARRAY_BYTES} bytes")
    file = io.BytesIO(data)
    np.lib.format.read_magic(file)
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
    flat: Planes = np.frombuffer(bytearray(data), dtype, offset=file.tell())  # to be written to
    return flat.reshape(shape, order="F" if is_fortran else "C")


@contextmanager
def open_file_store(
    path: Path, identity: Mapping[str, object], most_bytes: int
) -> Iterator[FileStore]:
    """The store in the file at ``path``, made anew where its identity or our code is another one.

    The file is replaced when the block ends without an error, and only if everything has found
    room in ``most_bytes`` and on the disk. Where another process fills it, nothing is kept. Raises
    NotACacheError where there is a file that is no such store.
    """
    wanted = json.dumps({"code": _digest_of_code(), **identity}, sort_keys=True, default=str)
    is_known = path.exists() and _identity_of(path) == wanted
    store = FileStore(most_bytes)
    with ExitStack() as held:
        try:
            part = held.enter_context(lock_of(path))
        except BlockingIOError:
            store.fail("another process writes to the file")
        except OSError as error:
            store.fail(error.strerror)
        else:
            held.callback(store.close)
            store.open(part, wanted, path if is_known else None)
        yield store
        is_complete = store.get(_COMPLETE) is not None
        store.close()
        if is_complete and not store.has_failed:
            part.replace(path)


def _digest_of_code() -> str:
    code = hashlib.blake2b(f"{cv2.__version__} {np.__version__}".encode(), digest_size=16)
    for file in sorted(CODE.rglob("*.py")):
        code.update(file.read_bytes())
    return code.hexdigest()


@contextmanager
def lock_of(path: Path) -> Iterator[Path]:
    """A hidden file beside the store's, by which one process writes; OSError where another does."""
    part = path.with_name(f".{path.name}.part")
    with part.open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_at(lock, part):  # another process ended between the two lines above
            raise BlockingIOError(errno.EWOULDBLOCK, "another process has just written")
        try:
            yield part
        finally:
            with suppress(OSError):
                if _is_at(lock, part):  # renamed to the store, it may be followed by another's
                    part.unlink()


def _is_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def is_store(path: Path) -> bool:
    """Whether the file is one that `open_file_store` has made, undamaged."""
    try:
        return bool(_identity_of(path))
    except NotACacheError:
        return False


def _identity_of(path: Path) -> str:
    named = f"{path.name} is damaged, or no file of kept network results"
    if not path.is_file():  # a FIFO would wait for ever
        raise NotACacheError(named)
    if path.stat().st_size == 0:
        return ""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(_IDENTITY) as file:
            sizes = [each.file_size for each in archive.infolist()]
            if max(sizes) <= MOST_ARRAY_BYTES and archive.testzip() is None:
                return file.read(_MOST_IDENTITY_BYTES).decode()
    except _UNREADABLE as error:
        raise NotACacheError(named) from error
    raise NotACacheError(named)


class NetworkCache:
    """The network's results on a clip's images.

    A name is ``group/what``: the group is the number of a frame, or a window.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def is_complete(self) -> bool:
        """Whether it has all results of a run over the whole clip, besides those of hints."""
        return self._store.get(_COMPLETE) is not None

    def finish(self) -> None:
        self._store.put(_COMPLETE, np.ones(1, np.uint8))

    def get(self, name: str) -> Planes | None:
        return self._store.get(name)

    def kept(self, name: str) -> Planes:
        """An array of a complete cache; raises NotACacheError where it is missing."""
        planes = self.get(name)
        if planes is None:
            raise NotACacheError(f"the kept network results lack {name}")
        return planes

    def put(self, name: str, planes: Planes) -> None:
        self._store.put(name, planes)

    def opinions(self, group: str) -> tuple[dict[View, Levels], CropBox | None]:
        """The opinions of an image, and what its crops show; none where they were not kept."""
        found = {view: self.get(f"{group}/{view}") for view in View}
        ends = self.get(f"{group}/box")
        box = None
        if ends is not None:
            top, bottom, left, right = (int(end) for end in ends)
            box = slice(top, bottom), slice(left, right)
        return {view: mask for view, mask in found.items() if mask is not None}, box

    def keep_opinions(self, group: str, opinions: dict[View, Levels], box: CropBox | None) -> None:
        """Keep an image's opinions, and what its crops show."""
        for view, mask in opinions.items():
            self.put(f"{group}/{view}", mask)
        if box is not None:
            down, across = box
            ends = [down.start, down.stop, across.start, across.stop]
            self.put(f"{group}/box", np.array(ends, np.int32))


@dataclass(frozen=True, slots=True)
class KeptAnswers:
    """The network on one hinted image, which is inferred once for all runs."""

    cache: NetworkCache
    key: str
    network: Network

    def ask(self, image: Image, grid: tuple[int, int]) -> dict[View, Levels]:
        """All opinions of the image."""
        group = f"hinted {self.key}"
        masks, _ = self.cache.opinions(group)
        if not masks:
            masks = ask(self.network, image, grid, ALWAYS, ALWAYS).masks
            self.cache.keep_opinions(group, masks, None)
        return masks

    def infer_part(self, image: Image, grid: tuple[int, int], box: CropBox, size_px: int) -> Levels:
        """A part of the image, as `opinions.infer_part` cuts it out."""
        ends = "-".join(f"{end}" for each in box for end in (each.start, each.stop))
        name = f"hinted {self.key}/part {ends}"
        mask = self.cache.get(name)
        if mask is None:
            mask = as_levels(infer_part(self.network, image, grid, box, size_px))
            self.cache.put(name, mask)
        return mask

"""The neural network's results on a clip, kept for a later run over the same clip.

A run with hints reads the results of an earlier run, and runs the network only on new hinted
frames and crops. Masks are the same with and without a cache (docs/adr/0050).
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
"""The folder with the code and tables that the network's results depend on."""
ALWAYS: Final = -1.0  # a limit below every uncertainty: all views are inferred
_IDENTITY: Final = "identity.json"
_COMPLETE: Final = "complete"
_MOST_IDENTITY_BYTES: Final = 64 << 10
_UNREADABLE: Final = (
    *(zipfile.BadZipFile, zlib.error, OSError, EOFError, KeyError, ValueError),
    RuntimeError,  # encrypted, or a ZIP version or compression that Python does not know
)
MOST_ARRAY_BYTES: Final = 16 << 20  # the largest array, a window's logits, has 13 MiB

log = logging.getLogger(__name__)

type Planes = NDArray[Any]


class NotACacheError(Exception):
    """The file is no store of network results, or is damaged or incomplete."""


class FileStore:
    """Arrays by name in a ZIP file, which `open_file_store` opens.

    If an array does not fit on the disk or into ``most_bytes``, log a warning, and keep no more.
    """

    def __init__(self, most_bytes: int) -> None:
        self._archive: zipfile.ZipFile | None = None
        self._file: IO[bytes]  # the archive's file
        self._most_bytes = most_bytes
        self._names: set[str] = set()
        self._bytes = 0
        self.has_failed = False

    def open(self, path: Path, identity: str, known: Path | None) -> None:
        """Create the file at ``path``: a copy of ``known`` or, if this is None, an empty store."""
        try:
            if known is not None:
                shutil.copyfile(known, path)
            self._file = path.open("w+b" if known is None else "r+b")
            self._archive = archive = zipfile.ZipFile(self._file, "w" if known is None else "a")
            if known is None:
                archive.writestr(_IDENTITY, identity)
            self._names = set(archive.namelist())
            self._bytes = sum(each.compress_size for each in archive.infolist())
        except OSError as error:
            self.fail(error.strerror)

    def close(self) -> None:
        """Write the ZIP directory and close the file; later calls do nothing."""
        if self._archive is None:
            return
        archive, self._archive = self._archive, None
        try:
            with self._file:
                archive.close()
        except OSError as error:
            self.fail(error.strerror)

    def get(self, name: str) -> Planes | None:
        if name not in self._names or self._archive is None:
            return None
        try:
            with self._archive.open(name) as file:
                return _array_of(file.read(MOST_ARRAY_BYTES + 1))
        except _UNREADABLE:
            raise NotACacheError(f"the kept network results are damaged at {name}") from None

    def setdefault(self, name: str, planes: Planes) -> None:
        """Write an array under ``name``; if the name exists, do nothing."""
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
            # Reopen the file for reading: the old handle would retry the failed write at each read.
            with suppress(OSError):
                self._file.close()
            self._archive.fp = self._file = Path(self._file.name).open("rb")  # noqa: SIM115
            return
        self._names.add(name)
        self._bytes += self._archive.getinfo(name).compress_size

    def fail(self, why: str | None) -> None:
        if not self.has_failed:
            log.warning("the network results are not kept: %s", why)
        self.has_failed = True


type Store = dict[str, Planes] | FileStore


def _array_of(data: bytes) -> Planes:
    """The array in the bytes of an .npy file; ValueError if the header does not fit the data."""
    if len(data) > MOST_ARRAY_BYTES:
        raise ValueError(f"an array has more than {MOST_ARRAY_BYTES} bytes")
    file = io.BytesIO(data)
    np.lib.format.read_magic(file)
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
    flat: Planes = np.frombuffer(bytearray(data), dtype, offset=file.tell())  # writable
    return flat.reshape(shape, order="F" if is_fortran else "C")


@contextmanager
def open_file_store(
    path: Path, identity: Mapping[str, object], most_bytes: int
) -> Iterator[FileStore]:
    """Open the store at ``path``; it is empty if the file has another ``identity`` or other code.

    The file is replaced when the block ends without an error, and only if all results of the clip
    fit into ``most_bytes`` and on the disk. If another process writes to the file,
    nothing is read or kept. Raises NotACacheError if the file is no store.
    """
    code = hashlib.blake2b(f"{cv2.__version__} {np.__version__}".encode(), digest_size=16)
    for file in sorted(each for each in CODE.rglob("*") if each.suffix in (".py", ".json")):
        code.update(file.read_bytes())
    wanted = json.dumps({"code": code.hexdigest(), **identity}, sort_keys=True, default=str)
    store = FileStore(most_bytes)
    with ExitStack() as held:
        try:
            part = held.enter_context(lock_of(path))
        except BlockingIOError:
            store.fail("another process writes to the file")
        except OSError as error:
            store.fail(error.strerror)
        else:
            is_known = path.exists() and _identity_of(path) == wanted
            held.callback(store.close)
            store.open(part, wanted, path if is_known else None)
        yield store
        is_complete = store.get(_COMPLETE) is not None
        store.close()
        if is_complete and not store.has_failed:
            part.replace(path)


@contextmanager
def lock_of(path: Path) -> Iterator[Path]:
    """Lock and yield the hidden file that replaces ``path`` later; OSError if it is locked."""
    part = path.with_name(f".{path.name}.part")
    with part.open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_at(lock, part):  # another process has just renamed or removed the file
            raise BlockingIOError(errno.EWOULDBLOCK, "another process has just written")
        try:
            yield part
        finally:
            with suppress(OSError):
                if _is_at(lock, part):  # after a rename, it may be another process's file
                    part.unlink()


def _is_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def is_store(path: Path) -> bool:
    """Whether the file is a store of `open_file_store`, and undamaged."""
    try:
        return bool(_identity_of(path))
    except NotACacheError:
        return False


def _identity_of(path: Path) -> str:
    named = f"{path.name} is damaged, or no file of kept network results"
    if not path.is_file():  # opening a FIFO would block
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
    """The network's results on a clip's images; without a store, nothing is kept.

    An array's name is ``group/array``; a group is a frame's number, a window or a hinted image.
    """

    def __init__(self, store: Store | None = None) -> None:
        self._store = store

    @property
    def is_complete(self) -> bool:
        """Whether the store has all results of a run without hints over the whole clip."""
        return self.get(_COMPLETE) is not None

    def finish(self) -> None:
        self.put(_COMPLETE, np.ones(1, np.uint8))

    def get(self, name: str) -> Planes | None:
        return None if self._store is None else self._store.get(name)

    def kept(self, name: str) -> Planes:
        """The array of this name; raises NotACacheError if it is missing."""
        planes = self.get(name)
        if planes is None:
            raise NotACacheError(f"the kept network results lack {name}")
        return planes

    def put(self, name: str, planes: Planes) -> None:
        if self._store is not None:
            self._store.setdefault(name, planes)

    def opinions(self, group: str) -> dict[View, Levels]:
        found = {view: self.get(f"{group}/{view}") for view in View}
        return {view: mask for view, mask in found.items() if mask is not None}

    def keep_opinions(self, group: str, opinions: Mapping[View, Levels]) -> None:
        for view, mask in opinions.items():
            self.put(f"{group}/{view}", mask)


@dataclass(frozen=True, slots=True)
class KeptAnswers:
    """Infers views and crops of one image; reads known masks from the cache, and adds new masks."""

    cache: NetworkCache
    key: str
    network: Network

    def ask(self, image: Image, grid: tuple[int, int]) -> dict[View, Levels]:
        """The opinions of all views, on ``grid``: columns, rows."""
        group = f"hinted {self.key}"
        masks = self.cache.opinions(group)
        if not masks:
            masks = ask(self.network, image, grid, ALWAYS, ALWAYS)
            self.cache.keep_opinions(group, masks)
        return masks

    def infer_part(self, image: Image, grid: tuple[int, int], box: CropBox, size_px: int) -> Levels:
        """The mask of `opinions.infer_part` as levels."""
        ends = "-".join(f"{end}" for each in box for end in (each.start, each.stop))
        name = f"hinted {self.key}/part {ends}"
        mask = self.cache.get(name)
        if mask is None:
            mask = as_levels(infer_part(self.network, image, grid, box, size_px))
            self.cache.put(name, mask)
        return mask

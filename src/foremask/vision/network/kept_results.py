"""Keeps arrays, such as the neural network's results on a clip, in a file for later runs."""

import hashlib
import io
import json
import logging
import os
import secrets
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

CODE: Final = Path(__file__).parents[1]
"""The folder with the code and tables that the network's results depend on."""
COMPLETE: Final = "complete"  # the array that is written last
_UNREADABLE: Final = (
    *(zipfile.BadZipFile, zlib.error, OSError, EOFError, KeyError, ValueError, MemoryError),
    RuntimeError,  # encrypted, or a ZIP version or compression that Python does not know
)
MOST_ARRAY_BYTES: Final = 16 << 20  # the largest array, a window's logits, has 13 MiB

log = logging.getLogger(__name__)

type Planes = NDArray[Any]


class NotACacheError(Exception):
    """The file is no store of network results, or is damaged or incomplete."""


class FileStore:
    """Arrays by name in a ZIP file, which `open_file_store` opens.

    If an array does not fit on the disk or into ``most_bytes``, all new arrays are dropped.
    """

    def __init__(
        self, path: Path, identity: str, known: zipfile.ZipFile | None, most_bytes: int
    ) -> None:
        self._path = path
        self._identity = identity
        self._most_bytes = most_bytes
        self._known = self._archive = known
        self._file: IO[bytes] | None = None  # a copy of the known file, with the new arrays
        self._has_failed = False

    def __contains__(self, name: str) -> bool:
        return self._archive is not None and name in self._archive.NameToInfo

    def get(self, name: str) -> Planes | None:
        if self._archive is None or name not in self:
            return None
        try:
            with self._archive.open(name) as file:
                return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
        except _UNREADABLE:
            raise NotACacheError(f"the kept network results are damaged at {name}") from None

    def setdefault(self, name: str, planes: Planes) -> None:
        """Write an array under ``name``; if the name exists, do nothing."""
        if self._has_failed or name in self:
            return
        array = io.BytesIO()
        np.save(array, planes, allow_pickle=False)
        how = zipfile.ZIP_DEFLATED if planes.dtype == np.uint8 else zipfile.ZIP_STORED
        try:
            archive, file = self._opened()
            left_bytes = self._most_bytes - os.fstat(file.fileno()).st_size
            if array.tell() > min(MOST_ARRAY_BYTES, left_bytes):
                self._fail(f"they take more than {self._most_bytes} bytes")
                return
            archive.writestr(name, array.getvalue(), how, compresslevel=1)
            file.flush()
        except OSError as error:
            self._fail(error.strerror)

    def _opened(self) -> tuple[zipfile.ZipFile, IO[bytes]]:
        if self._file is None or self._archive is None:
            self._file = TemporaryFile(dir=self._path.parent)  # noqa: SIM115
            if self._known is not None and self._known.fp is not None:
                self._known.fp.seek(0)
                shutil.copyfileobj(self._known.fp, self._file)
            self._archive = zipfile.ZipFile(self._file, "a")
            self._archive.comment = self._identity.encode()
        return self._archive, self._file

    def finish(self) -> None:
        """Replace the file, if there are new arrays."""
        if self._file is None or self._archive is None:
            return
        part = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}.part")
        try:
            self._archive.close()  # writes the ZIP file's directory
            self._file.seek(0)
            with part.open("xb") as file:
                shutil.copyfileobj(self._file, file)
            part.replace(self._path)
        except OSError as error:
            self._fail(error.strerror)
        finally:
            part.unlink(missing_ok=True)

    def _fail(self, why: str | None) -> None:
        log.warning("the network results are not kept: %s", why)
        self._has_failed = True
        self.drop()

    def drop(self) -> None:
        """Forget the new arrays."""
        if self._archive is not None and self._archive is not self._known:
            self._archive.fp = None  # else the archive, when freed, would write to the file
        with suppress(OSError):
            if self._file is not None:
                self._file.close()
        self._archive = self._known
        self._file = None


@contextmanager
def open_file_store(
    path: Path, identity: Mapping[str, object], most_bytes: int
) -> Iterator[FileStore]:
    """Open the store at ``path``; it is empty if ``identity`` or the code has changed.

    The file is replaced when the ``with`` block ends, also with an error, if there are new arrays.
    If several processes replace it, the last one wins. Raises NotACacheError if the file is no
    store.
    """
    code = hashlib.blake2b(f"{cv2.__version__} {np.__version__}".encode(), digest_size=16)
    for file in sorted(each for each in CODE.rglob("*") if each.suffix in (".py", ".json", ".npz")):
        code.update(file.read_bytes())
    wanted = json.dumps({"code": code.hexdigest(), **identity}, sort_keys=True, default=str)
    known: zipfile.ZipFile | None = None
    found = ""
    if path.exists():
        known, found = opened_store(path)
    store = FileStore(path, wanted, known if found == wanted else None, most_bytes)
    try:
        yield store
    except NotACacheError:
        store.drop()
        raise
    finally:
        store.finish()
        store.drop()
        if known is not None:
            known.close()


def opened_store(path: Path) -> tuple[zipfile.ZipFile | None, str]:
    """The archive, or None if empty, and its comment; raises NotACacheError if unreadable."""
    with suppress(*_UNREADABLE):
        if not path.is_file():  # opening a FIFO would block
            raise FileNotFoundError
        if path.stat().st_size == 0:
            return None, ""
        archive = zipfile.ZipFile(path)
        sizes = [each.file_size for each in archive.infolist()]
        if max(sizes) <= MOST_ARRAY_BYTES and archive.testzip() is None:
            return archive, archive.comment.decode()
    raise NotACacheError(f"{path.name} is damaged, or no file of kept network results")

"""Writes each output under a hidden name, and renames it when it is complete."""

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from foremask.errors import FieldInvalid, OutputExists, OutputFailed
from foremask.machine.locks import locked
from foremask.options import TOOL_FORMS, Form, JobSpec

_NO_HARD_LINKS: Final = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EACCES}
_LOCK_SUFFIX: Final = ".lock"
_UNIQUE_BYTES: Final = 4  # random, in the name of a hidden file


def check_output(target: Path, *sources: Path, replace: bool = False) -> None:
    """Raise OutputFailed if ``target`` is one of ``sources``, or cannot be written.

    Without ``replace``, an existing file is an error too.
    """
    for source in sources:
        if is_same_file(target, source):
            raise OutputFailed(f"the output is the input: {target} would be lost")
    try:
        mode = target.lstat().st_mode
    except FileNotFoundError:
        pass
    except OSError as error:
        raise OutputFailed(f"{target} cannot be written: {error.strerror}") from error
    else:
        if target.is_dir():
            raise OutputFailed(f"{target} is a directory")
        if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
            raise OutputFailed(f"{target} is not a file, and is not replaced by one")
        if not replace:
            raise _exists(target)
    _check_parent(target.parent)


def check_target(
    spec: JobSpec,
    target: Path,
    sources: Sequence[Path],
    *,
    background: Path | None = None,
    replace: bool = False,
) -> None:
    """Raise OutputFailed or FieldInvalid if the result cannot be written to ``target``.

    ``sources`` are files that must not be replaced.
    """
    if background is not None and is_same_file(target, background):
        raise FieldInvalid(
            f"The background is the output: {target} would be lost", param="background"
        )
    if spec.form in TOOL_FORMS:
        check_directory(target)
    elif spec.form is Form.PNG_FILES:
        _check_numbered(target, sources, replace=replace)
    else:
        if spec.form is Form.PNG:
            check_png(target)
        check_output(target, *sources, replace=replace)


def _check_numbered(target: Path, sources: Sequence[Path], *, replace: bool) -> None:
    from foremask.media.png_sequence import check_pattern, is_pattern, numbering  # slow to import

    if not is_pattern(target.name):
        details = f"{target.name} is one picture; name them with a number: frames/%04d.png."
        raise FieldInvalid(details, param="target")
    check_pattern(target.name)
    check_directory(target.parent, numbering(target.name).fullmatch, replace=replace)
    if any(is_same_file(source.parent, target.parent) for source in sources):
        raise OutputFailed(f"the output is the input: {target.parent} would be lost")


def _check_parent(folder: Path) -> None:
    if not folder.is_dir():
        raise OutputFailed(f"there is no directory {folder}")
    if not os.access(folder, os.W_OK):
        raise OutputFailed(f"{folder} may not be written to")


def is_same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


@contextmanager
def written_whole(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield the path of a hidden file beside ``target``; rename it to ``target`` on success.

    After an error, the hidden file is deleted. A killed process leaves its hidden file and that
    file's lock, and the next writer of ``target`` deletes both. Raises OutputFailed, also if
    ``target`` has appeared meanwhile and ``replace`` is not set.
    """
    part = target.with_name(
        f".{target.stem}.{secrets.token_hex(_UNIQUE_BYTES)}.part{target.suffix}"
    )
    with ExitStack() as held:
        with _translated(target):
            _remove_abandoned(target)
            held.enter_context(locked(_lock_of(part)))  # fails early in a read-only folder
            part.open("xb").close()
        try:
            yield part
            with _translated(target):
                _name(part, target, replace=replace)
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)


def write_whole(target: Path, content: bytes, *, replace: bool = False) -> None:
    """Write ``content`` as `written_whole` does. Raises OutputFailed, also on a full disk."""
    with written_whole(target, replace=replace) as part, _translated(target):
        part.write_bytes(content)


def _lock_of(part: Path) -> Path:
    return part.with_name(f"{part.name}{_LOCK_SUFFIX}")


@contextmanager
def _translated(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputFailed(f"{target} cannot be written: {error.strerror}") from error


def _name(part: Path, target: Path, *, replace: bool) -> None:
    if replace:
        part.replace(target)
        return
    try:
        os.link(part, target)  # unlike a rename, a link never replaces a file
    except FileExistsError:
        raise _exists(target) from None
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        if os.path.lexists(target):
            raise _exists(target) from None
        part.rename(target)


def _remove_abandoned(target: Path) -> None:
    """Delete hidden files of ``target`` that are not locked: killed processes left them."""
    begin = f".{target.stem}."
    end = f".part{target.suffix}"
    for left in list(target.parent.iterdir()):
        part = left.with_name(left.name.removesuffix(_LOCK_SUFFIX))
        unique = part.name.removeprefix(begin).removesuffix(end)
        if part.name != f"{begin}{unique}{end}" or len(unique) != 2 * _UNIQUE_BYTES:
            continue
        with suppress(OSError), locked(_lock_of(part), waits=False) as is_abandoned:
            if is_abandoned:
                part.unlink(missing_ok=True)
                part.with_name(f".{part.name}.part").unlink(missing_ok=True)  # by old versions


def _exists(target: Path) -> OutputExists:
    return OutputExists(f"{target} exists already")


def check_png(target: Path) -> None:
    if target.suffix.lower() != ".png":
        raise FieldInvalid(f"a PNG is written: let {target.name!r} end in .png", param="target")


def check_directory(
    target: Path, ours: Callable[[str], object] = lambda _: False, *, replace: bool = False
) -> None:
    """Raise OutputFailed if ``target`` has a file whose name ``ours`` does not accept.

    Without ``replace``, any file is an error.
    """
    try:
        names = [each.name for each in target.iterdir()]
    except FileNotFoundError:
        names = []
    except NotADirectoryError:
        raise OutputFailed(f"{target} is not a directory") from None
    except OSError as error:
        raise OutputFailed(f"{target} cannot be read: {error.strerror}") from error
    foreign = [name for name in names if not ours(name)]
    if foreign:
        raise OutputFailed(
            f"{target} has other files ({sorted(foreign)[0]}): name a directory of its own"
        )
    if names and not replace:
        raise _exists(target)
    _check_parent(target.absolute().parent)


@contextmanager
def directory_written_whole(target: Path) -> Iterator[Path]:
    """As `written_whole`, for a directory, which replaces an existing ``target`` on success."""
    target = target.absolute()
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    with _translated(target):
        part.mkdir()
    try:
        yield part
        with _translated(target):
            if target.exists():
                for each in target.iterdir():  # `check_directory` has checked them
                    each.unlink()
                target.rmdir()
            part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)

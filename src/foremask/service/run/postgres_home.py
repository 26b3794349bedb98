"""Where the bundled database is kept, and which user owns it."""

import hashlib
import os
import pwd
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from foremask.errors import SettingsInvalid

SOCKET_NAME = ".s.PGSQL.5432"
SOCKET_PATH_BYTES = 107  # sun_path of unix(7), less its final zero
FOR_ROOT = Path("/var/lib/foremask")  # an unprivileged user reaches it, whatever the path here


class RunAs(TypedDict, total=False):
    """Arguments of subprocess; empty where the server runs as this process's user."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, slots=True)
class Home:
    """The directories of one database; ``run_as`` is empty unless this process is root."""

    root: Path
    sockets: Path
    run_as: RunAs = field(default_factory=RunAs)

    @property
    def data(self) -> Path:
        return self.root / "data"


def prepare_home(data_dir: Path) -> Home:
    """Make the directories, give them to the server's user, and decide where they are."""
    root = data_dir / "postgres"
    root.parent.mkdir(parents=True, exist_ok=True)
    uid, gid, run_as = os.geteuid(), os.getegid(), RunAs()
    if uid == 0:
        user = _unprivileged()
        uid, gid = user.pw_uid, user.pw_gid
        run_as = RunAs(user=uid, group=gid, extra_groups=[])
        if not root.is_symlink() and not _reachable(root.parent):
            _move_out(root)
    root = root.resolve()
    home = Home(root, _sockets(root), run_as)
    for directory in (home.root, home.data, home.sockets):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = directory.lstat()
        if facts.st_uid == 0 and uid != 0:
            os.chown(directory, uid, gid, follow_symlinks=False)
            facts = directory.lstat()
        if facts.st_uid != uid or not stat.S_ISDIR(facts.st_mode):
            raise SettingsInvalid(
                f"{directory} must be a directory of user {uid}, who runs PostgreSQL",
                param="FOREMASK_DATA_DIR",
            )
        directory.chmod(0o700)
    return home


def _sockets(root: Path) -> Path:
    """The directory of the server's socket: the database's own, unless that path is too long."""
    sockets = root / "socket"
    is_list = "," in str(sockets)  # the server and its clients would read two directories
    if is_list or len(os.fsencode(sockets / SOCKET_NAME)) > SOCKET_PATH_BYTES:
        digest = hashlib.sha256(os.fsencode(root)).hexdigest()[:16]
        return Path(f"/tmp/foremask-{digest}")  # noqa: S108  # owner and mode are checked
    return sockets


def _move_out(root: Path) -> None:
    """Move the database to where the unprivileged user can reach it, and leave a link here."""
    digest = hashlib.sha256(os.fsencode(root.parent.resolve())).hexdigest()[:16]
    place = FOR_ROOT / digest
    place.mkdir(mode=0o755, parents=True, exist_ok=True)
    root.symlink_to(place)


def _unprivileged() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise SettingsInvalid(
        "PostgreSQL does not run as root, and this machine has no user postgres or nobody to run it"
        " as; start foremask as another user, or set FOREMASK_DATABASE_URL"
    )


def _reachable(path: Path) -> bool:
    whole = path.resolve()
    return all(each.stat().st_mode & stat.S_IXOTH for each in (whole, *whole.parents))

"""Hides what Windows and macOS lack, in every Python that starts with this folder on its path.

`make elsewhere` runs the tests of the library and of the commands for files so, children included.
"""

import os
import sys
import sysconfig
import urllib.request  # noqa: F401  # as does this
from contextlib import suppress

import filelock  # noqa: F401  # chooses by the system when it is imported

with suppress(ImportError):  # its program is named for the system
    import imageio_ffmpeg

    os.environ["IMAGEIO_FFMPEG_EXE"] = imageio_ffmpeg.get_ffmpeg_exe()
sysconfig.get_config_vars()  # reads a file that is named for the system
_POSIX = ("fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty")
_SERVICE = ("psycopg", "structlog", "uvloop")  # the service is for Linux
for _name in (*_POSIX, *_SERVICE):
    sys.modules[_name] = None  # type: ignore[assignment]  # cannot be imported
for _name in [each for each in vars(os) if each.startswith("sched_")]:
    delattr(os, _name)
vars(os)["process_cpu_count"] = os.cpu_count  # it calls one of these
os.sysconf_names = {}
sys.platform = "darwin"

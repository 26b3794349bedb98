"""Hides what Windows and macOS lack, in every Python that starts with this folder on its path.

`make elsewhere` runs the tests of the library and of the commands for files so, children included.
"""

import os
import sys
import sysconfig
import urllib.request  # noqa: F401  # as does this

import filelock  # noqa: F401  # chooses by the system when it is imported

sysconfig.get_config_vars()  # reads a file that is named for the system
_POSIX = ("fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty")
_SERVICE = ("procrastinate", "psycopg", "structlog", "uvloop")  # the service is for Linux
for _name in (*_POSIX, *_SERVICE):
    sys.modules[_name] = None  # type: ignore[assignment]  # cannot be imported
for _name in [each for each in vars(os) if each.startswith("sched_")]:
    delattr(os, _name)
os.sysconf_names = {}
sys.platform = "darwin"

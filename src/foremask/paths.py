"""Where foremask keeps files when nobody says: the user's cache and data directories (XDG)."""

import os
from collections.abc import Mapping
from pathlib import Path


def cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """The directory for what can be fetched again: the model and what is compiled from it."""
    return _home(environ, "XDG_CACHE_HOME", ".cache")


def data_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """The directory for what cannot: the database and the results."""
    return _home(environ, "XDG_DATA_HOME", ".local/share")


def _home(environ: Mapping[str, str], variable: str, below_home: str) -> Path:
    named = Path(environ.get(variable, ""))
    if not named.is_absolute():  # the XDG specification: a relative path is to be ignored
        try:
            named = Path(environ.get("HOME") or Path.home()) / below_home
        except (
            RuntimeError
        ):  # a container's user without an entry in passwd: what is made there, says so
            named = Path("/nonexistent") / below_home
    return named / "foremask"

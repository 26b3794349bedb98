"""The user's default cache and data directories; only this module imports platformdirs."""

from pathlib import Path

_APP = "foremask"
_NO_HOME = Path("/nonexistent", _APP)  # for a user without an entry in passwd, as in containers


def cache_dir() -> Path:
    """The directory of the network and its compiled form, which can both be made again."""
    import platformdirs  # takes 15 ms to load, which `import foremask` saves

    try:
        return platformdirs.user_cache_path(_APP)
    except RuntimeError:
        return _NO_HOME


def data_dir() -> Path:
    import platformdirs

    try:
        return platformdirs.user_data_path(_APP)
    except RuntimeError:
        return _NO_HOME

"""The user's default cache and data directories."""

from pathlib import Path

_APP = "foremask"
_NO_HOME = Path("/nonexistent", _APP)  # for a user without an entry in passwd, as in a container


def cache_dir() -> Path:
    import platformdirs  # takes 15 ms, so `import foremask` does not import it

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

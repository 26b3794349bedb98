"""What a check of ``foremask doctor`` is."""

from collections.abc import Callable
from typing import Literal

from foremask.settings import Settings

type CheckResult = tuple[Literal["ok", "note", "bad"], str] | None
type Check = Callable[[Settings], CheckResult]
"""A check that raises ForemaskError is reported as bad; a result of None is not reported."""

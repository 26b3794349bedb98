from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from foremask.errors import ForemaskError


@contextmanager
def refused(
    *reasons: str, match: str | None = None
) -> Iterator[pytest.ExceptionInfo[ForemaskError]]:
    """Expect an error of one of these ``reasons``."""
    with pytest.raises(ForemaskError, match=match) as caught:
        yield caught
    assert caught.value.reason in reasons

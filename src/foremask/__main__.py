"""``foremask`` and ``python -m foremask``."""

import os
import sys

# NumPy's matrices here are small, and OpenBLAS's threads spin while they wait: on busy cores one product took
# minutes. The network has threads of its own. Read when NumPy is first imported, hence before all else.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Every core has a stage of the pipeline already: OpenCV's threads would wait for each other (docs/adr/0055).
os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")

from foremask.cli.app import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())

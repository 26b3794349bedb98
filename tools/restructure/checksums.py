"""SHA-256 of the alpha masks of six sequences x three tiers, for either layout: run in a checkout's root with its Python.

    .venv/bin/python checksums.py [FRAMES [CLIPS [TIERS]]]   # 16, 6, 3 by default; prints one line a mask stream
"""

import os
import hashlib
import sys
from itertools import islice
from pathlib import Path

sys.path[:0] = ["src", "."]
try:
    from foremask import own_process as setup
except ImportError:
    from foremask.machine import process_setup as setup
setup.prepare()
import cv2  # noqa: E402

try:
    from foremask.masking.pipeline import refine_edges  # noqa: F401
    from foremask.vision.image import ArrayImage as Still
    from foremask.vision.matting.edges import refine
    from foremask.vision.matting.outline import resolve_outlines as settled
    from foremask.vision.network.session import network_at
    from foremask.vision.temporal.windows import TIERS
    from foremask.vision.temporal.windows import mask_images as mask_pictures
    from foremask.weights.catalogue import model_path
except ImportError:
    from foremask.vision.models import model_path
    from foremask.vision.outline import settled
    from foremask.vision.refine import refine
    from foremask.vision.segment import TIERS, mask_pictures
    from foremask.vision.session import network_at
    from foremask.vision.still import Still
from foremask.options import Device  # noqa: E402

frames = int(sys.argv[1]) if len(sys.argv) > 1 else 16
names = ("bmx-trees", "dance-twirl", "horsejump-high", "parkour", "dog", "car-shadow")
clips = int(sys.argv[2]) if len(sys.argv) > 2 else 6
tiers = int(sys.argv[3]) if len(sys.argv) > 3 else 3
folders = [next(Path(os.environ.get("FOREMASK_DATA", "../shared/data")).rglob(f"{name}/frames")) for name in names[-clips:]]
network = network_at(model_path(), Device.CPU)
for folder in folders:
    rgbs = [cv2.cvtColor(cv2.imread(str(p)), cv2.COLOR_BGR2RGB) for p in islice(sorted(folder.glob("*.jpg")), frames)]
    for quality, tier in list(TIERS.items())[:tiers]:
        digest = hashlib.sha256()
        images = [Still(rgb) for rgb in rgbs]
        behind = getattr(tier, "uses_backdrop", getattr(tier, "looks_behind", False))
        pairs = zip(images, mask_pictures(images, network, tier), strict=True)
        for (image, alpha), rgb in zip(settled(pairs, 16 if behind else None), rgbs, strict=True):
            digest.update(alpha.tobytes())
            digest.update(refine(alpha, cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)).tobytes())
        print(folder.parent.name, quality, digest.hexdigest(), flush=True)

"""The moving picture of the README: a clip, its mask, and the subject on a new background.

``python -m benchmarks.scenes.hero CLIP MASK docs/pictures/hero.webp``
"""

import subprocess
import sys
from pathlib import Path

import imageio_ffmpeg

WIDTH_PX = 400
NEW_BACKGROUND = "0x1f6f78"
QUALITY = 62


def main() -> None:
    """Write an animated WebP that loops."""
    clip, mask, target = map(Path, sys.argv[1:])
    graph = (
        f"[0:v]scale={WIDTH_PX}:-2,split=3[clip][subject][size];"
        f"[1:v]scale={WIDTH_PX}:-2,format=gray,split[mask][matte];"
        f"[size]drawbox=color={NEW_BACKGROUND}:t=fill[wall];"
        "[subject][matte]alphamerge[cut];[wall][cut]overlay[composite];"
        "[mask]format=yuv420p[shown];[clip][shown][composite]hstack=inputs=3"
    )
    subprocess.run(  # noqa: S603
        [
            imageio_ffmpeg.get_ffmpeg_exe(),
            *("-v", "error", "-y", "-i", str(clip), "-i", str(mask), "-filter_complex", graph),
            *("-c:v", "libwebp_anim", "-loop", "0", "-quality", str(QUALITY), str(target)),
        ],
        check=True,
    )


if __name__ == "__main__":
    main()

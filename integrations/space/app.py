"""A Hugging Face Space: drop a clip, get its mask and its cut-out."""

import subprocess
import sys
import tempfile
from pathlib import Path

import foremask

LONGEST_S = 20.0  # a free Space has two cores
QUALITIES = ("fast", "balanced", "best")


def masked(clip: str | None, quality: str = "fast") -> tuple[str, str, str]:
    """Return the paths of a mask and of a cut-out, and a sentence; raises foremask's errors."""
    if clip is None:
        raise ValueError("Choose a clip first.")
    folder = Path(tempfile.mkdtemp())
    mask = folder / "mask.mp4"
    cut = folder / "cutout.webm"
    kept = folder / "network"  # its results: the cut-out needs no second look
    chosen = foremask.Quality(quality)
    report = foremask.mask_video(clip, mask, quality=chosen, end_s=LONGEST_S, cache=kept)
    foremask.cut_out(clip, cut, quality=chosen, end_s=LONGEST_S, cache=kept)
    said = f"{report.frames_out} frames, {report.coverage:.0%} foreground"
    return str(mask), str(cut), said


def main() -> None:
    import gradio  # a Space brings it

    subprocess.run([sys.executable, "-m", "foremask", "models", "pull"], check=True)

    def shown(clip: str | None, quality: str) -> tuple[str, str, str]:
        try:
            return masked(clip, quality)
        except (ValueError, foremask.ForemaskError) as error:
            raise gradio.Error(str(error)) from error

    with gradio.Blocks(title="foremask") as page:
        gradio.Markdown(
            f"# foremask\nThe mask of a clip, and its subject cut out: {LONGEST_S:g} s."
        )
        with gradio.Row():
            clip = gradio.Video(label="Clip")
            mask = gradio.Video(label="Mask")
            cut = gradio.File(label="Cut-out with alpha (WebM)")
        quality = gradio.Radio(QUALITIES, value=QUALITIES[0], label="Quality")
        said = gradio.Textbox(label="Report", interactive=False)
        gradio.Button("Mask it").click(shown, [clip, quality], [mask, cut, said])
    page.queue(max_size=8).launch()


if __name__ == "__main__":
    main()

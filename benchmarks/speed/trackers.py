"""Measures what a tracker costs: seconds a frame that it sees, memory, and a whole clip.

``python -m benchmarks.speed.trackers`` builds the published architectures from the configurations
of `transformers`, with random weights, saves them as safetensors, and loads them by foremask's own
path. Time and memory do not depend on the weights; the masks mean nothing. It needs foremask[sam]
and no network. With ``--folder``, it measures the weights that are there instead.
"""

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from tests.support import synth
from tests.vision.temporal.test_windows import moving_disc

from benchmarks import machine
from foremask.hints.kinds import Hint, Point, Text
from foremask.masking.pipeline import run
from foremask.masking.tracked_masker import finder_for, tracker_for
from foremask.options import Device, Files, JobSpec, Resources, TrackerName
from foremask.vision.tracking.tracker import Prompt, PromptBox, PromptPoint
from foremask.weights.trackers import TRACKERS, WORDS, HubFiles

if TYPE_CHECKING:
    from transformers import EdgeTamVideoConfig, PreTrainedTokenizerBase

MEASURED: tuple[TrackerName, ...] = ("sam2.1-tiny", "edgetam")
SEEN_FRAMES = 8  # more than the 7 frames whose memories the networks look at
CLIP_FRAMES = 48
SPEC = synth.Spec(1280, 720, pts=tuple(range(0, CLIP_FRAMES * 1000, 1000)))
MIDDLE = Point(180, 360)


def make(files: HubFiles, folder: Path) -> None:
    """Save the architecture with random weights, as `hf download` leaves the trained ones."""
    import torch
    import transformers

    torch.manual_seed(0)
    builders: dict[str, Callable[[], transformers.PreTrainedModel]] = {
        TRACKERS["sam2.1-tiny"].folder: lambda: transformers.Sam2VideoModel(
            transformers.Sam2VideoConfig()
        ),
        TRACKERS["edgetam"].folder: lambda: transformers.EdgeTamVideoModel(_edgetam()),
        WORDS.folder: lambda: transformers.GroundingDinoForObjectDetection(
            transformers.GroundingDinoConfig()
        ),
    }
    builders[files.folder]().save_pretrained(folder / files.folder)
    if files is WORDS:
        tokenizer().save_pretrained(folder / files.folder)


def _edgetam() -> "EdgeTamVideoConfig":
    """The published configuration; transformers' default has another backbone."""
    import transformers

    levels = {"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]}
    backbone = transformers.TimmWrapperConfig(architecture="repvit_m1", model_args=levels)
    vision = transformers.EdgeTamVisionConfig(backbone_config=backbone)
    return transformers.EdgeTamVideoConfig(vision_config=vision)


def tokenizer() -> "PreTrainedTokenizerBase":
    """A tokenizer of letters whose special tokens have BERT's numbers, as Grounding DINO expects."""
    import transformers

    names = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
    names |= {1012: ".", 1029: "?"}
    letters = "abcdefghijklmnopqrstuvwxyz"
    names |= {2000 + at: letter for at, letter in enumerate(letters)}
    names |= {3000 + at: f"##{letter}" for at, letter in enumerate(letters)}
    words = {names.get(number, f"[unused{number}]"): number for number in range(30_522)}
    return transformers.BertTokenizer(vocab=words)


def measure_tracker(name: TrackerName, resources: Resources) -> None:
    started = time.perf_counter()
    tracker = tracker_for(JobSpec(hints=(MIDDLE,), tracker=name), resources)
    loaded_s = time.perf_counter() - started
    track = tracker.begin()
    seconds: list[list[float]] = []
    prompts = [
        [Prompt(0, (PromptPoint(0.2, 0.5),))],
        [Prompt(1, box=PromptBox(0.5, 0.2, 0.8, 0.9))],
    ]
    for number, (image, _) in enumerate(moving_disc(2 * SEEN_FRAMES)):
        started = time.perf_counter()
        track.advance(image)
        if number % SEEN_FRAMES == 0:
            track.prompt(prompts[number // SEEN_FRAMES])
            seconds.append([])
        seconds[-1].append(time.perf_counter() - started)
    first_s = seconds[0][0]
    one_s, two_s = (median(each[SEEN_FRAMES // 2 :]) for each in seconds)
    clip_s = whole_clip(name, (MIDDLE,), resources)
    shown = (f"{each:.2f}" for each in (loaded_s, first_s, one_s, two_s, clip_s / CLIP_FRAMES))
    machine.row(name, *shown, memory())


def measure_words(resources: Resources) -> None:
    spec = JobSpec(hints=(Text("the red disc"),))
    started = time.perf_counter()
    find = finder_for(spec, resources)
    loaded_s = time.perf_counter() - started
    assert find is not None  # noqa: S101
    seconds = []
    for image, _ in moving_disc(3):
        started = time.perf_counter()
        find(image)
        seconds.append(time.perf_counter() - started)
    machine.row(WORDS.folder, f"{loaded_s:.2f}", "", f"{median(seconds):.2f}", "", "", memory())


def whole_clip(name: TrackerName, hints: tuple[Hint, ...], resources: Resources) -> float:
    with tempfile.TemporaryDirectory() as folder:
        source = synth.write(Path(folder) / "clip.mp4", SPEC)
        files = Files(source=source, target=Path(folder) / "mask.mp4")
        started = time.perf_counter()
        run(JobSpec(hints=hints, tracker=name), files, resources=resources)
        return time.perf_counter() - started


def memory() -> str:
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20):.1f}"


def main(*, folder: Path | None = None, only: str | None = None, device: str = "cpu") -> None:
    """Measure each network in a process of its own; ``only`` names the one of this process."""
    if only is not None and folder is not None:
        resources = Resources(device=Device.parse(device), tracker_dir=folder)
        if only == WORDS.folder:
            measure_words(resources)
        else:
            measure_tracker(next(name for name in TRACKERS if name == only), resources)
        return
    packages = ", ".join(f"{each} {version(each)}" for each in ("torch", "transformers", "timm"))
    print(machine.facts(), packages, f"{SPEC.width}x{SPEC.height}", sep="\n")
    machine.header(
        "network",
        "loaded, s",
        "first frame, s",
        "a frame with one thing, s",
        "with two, s",
        "a clip's frame in balanced, s",
        "GiB",
    )
    with tempfile.TemporaryDirectory() as made:
        measured = [TRACKERS[name] for name in MEASURED]
        if folder is not None:
            measured = [each for each in TRACKERS.values() if (folder / each.folder).is_dir()]
        for files in (*measured, WORDS):
            if folder is None:
                make(files, Path(made))
            program = [sys.executable, "-m", "benchmarks.speed.trackers"]
            where = ["--folder", str(folder or made), "--only", files.folder, "--device", device]
            subprocess.run([*program, *where], check=True)  # noqa: S603


if __name__ == "__main__":
    machine.run(main, __doc__)

"""Measures what a tracker costs: a frame that it sees, memory, and a whole clip.

``PYTHONPATH=. python integrations/trackers/measure.py`` builds the published architectures from the
configurations of `transformers`, with random weights, saves them as safetensors, and loads them as
a run does. Time and memory do not depend on the weights; the masks mean nothing. It needs this
package and no network. With ``--folder``, it measures the weights that are there instead.
``--quick`` measures the first frames of one thing only. Seconds are of processor time on a
processor, which other work on the machine changes little, and of the clock on a card.
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

from foremask_trackers.files import TRACKERS, WORDS, HubFiles, TrackerName, folder_of
from foremask_trackers.sam import SamTracker
from foremask_trackers.tracker import Prompt, PromptBox
from foremask_trackers.words import WordFinder
from tests.pipeline.stages.test_network_masks import moving_disc
from tests.support import synth

from benchmarks import machine
from foremask.hints.kinds import Hint, Point
from foremask.masking.runner import run
from foremask.options import Device, Files, JobSpec, Resources, Runtime
from foremask.vision.network.finder import Click

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
        TRACKERS["sam2.1-tiny"].name: lambda: transformers.Sam2VideoModel(
            transformers.Sam2VideoConfig()
        ),
        TRACKERS["edgetam"].name: lambda: transformers.EdgeTamVideoModel(_edgetam()),
        WORDS.name: lambda: transformers.GroundingDinoForObjectDetection(
            transformers.GroundingDinoConfig()
        ),
    }
    builders[files.name]().save_pretrained(folder / files.name)
    if files is WORDS:
        tokenizer().save_pretrained(folder / files.name)


def _edgetam() -> "EdgeTamVideoConfig":
    """The published configuration; transformers' default has another backbone."""
    import transformers

    levels = {"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]}
    backbone = transformers.TimmWrapperConfig(architecture="repvit_m1", model_args=levels)
    vision = transformers.EdgeTamVisionConfig(backbone_config=backbone)
    return transformers.EdgeTamVideoConfig(vision_config=vision)


def tokenizer() -> "PreTrainedTokenizerBase":
    """A tokenizer of letters whose special tokens have the numbers that Grounding DINO expects."""
    import transformers

    names = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
    names |= {1012: ".", 1029: "?"}
    letters = "abcdefghijklmnopqrstuvwxyz"
    names |= {2000 + at: letter for at, letter in enumerate(letters)}
    names |= {3000 + at: f"##{letter}" for at, letter in enumerate(letters)}
    words = {names.get(number, f"[unused{number}]"): number for number in range(30_522)}
    return transformers.BertTokenizer(vocab=words)


def measure_tracker(name: TrackerName, resources: Resources, *, quick: bool) -> None:
    clock = clock_for(resources.device)
    started = clock()
    tracker = SamTracker(name, folder_of(TRACKERS[name], resources.tracker_dir), resources.device)
    loaded_s = clock() - started
    track = tracker.begin()
    seconds: list[float] = []
    prompts = {
        0: Prompt(0, (Click(0.2, 0.5, inside=True),)),
        SEEN_FRAMES: Prompt(1, box=PromptBox(0.5, 0.2, 0.8, 0.9)),
    }
    for number, (image, _) in enumerate(moving_disc(3 if quick else 2 * SEEN_FRAMES)):
        started = clock()
        track.advance(image)
        if number in prompts:
            track.prompt([prompts[number]])
        seconds.append(clock() - started)
    shown = [f"{loaded_s:.1f}", f"{seconds[0]:.1f}"]
    if quick:
        shown += [f"{seconds[-1]:.1f}", "", ""]
    else:
        one_s = median(seconds[SEEN_FRAMES // 2 : SEEN_FRAMES])
        two_s = median(seconds[-SEEN_FRAMES // 2 :])
        clip_s = whole_clip(name, (MIDDLE,), resources) / CLIP_FRAMES
        shown += [f"{each:.1f}" for each in (one_s, two_s, clip_s)]
    machine.row(name, *shown, memory())


def clock_for(device: Device) -> Callable[[], float]:
    if device.runtime is Runtime.CPU:
        return time.process_time
    return time.perf_counter


def measure_words(resources: Resources, *, quick: bool) -> None:
    clock = clock_for(resources.device)
    started = clock()
    finder = WordFinder(folder_of(WORDS, resources.tracker_dir), resources.device)
    loaded_s = clock() - started
    seconds = []
    for image, _ in moving_disc(1 if quick else 3):
        started = clock()
        finder.boxes(image, ["the red disc"])
        seconds.append(clock() - started)
    machine.row(WORDS.name, f"{loaded_s:.1f}", "", f"{median(seconds):.1f}", "", "", memory())


def whole_clip(name: TrackerName, hints: tuple[Hint, ...], resources: Resources) -> float:
    with tempfile.TemporaryDirectory() as folder:
        source = synth.write(Path(folder) / "clip.mp4", SPEC)
        files = Files(source=source, target=Path(folder) / "mask.mp4")
        clock = clock_for(resources.device)
        started = clock()
        run(JobSpec(hints=hints, tracker=name), files, resources=resources)
        return clock() - started


def memory() -> str:
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20):.1f}"


def main(
    *, folder: Path | None = None, only: str | None = None, device: str = "cpu", quick: bool = False
) -> None:
    """Measure each network in a process of its own; ``only`` names the one of this process."""
    if only is not None and folder is not None:
        resources = Resources(device=Device.parse(device), tracker_dir=folder)
        if only == WORDS.name:
            measure_words(resources, quick=quick)
        else:
            name = next(name for name in TRACKERS if name == only)
            measure_tracker(name, resources, quick=quick)
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
            measured = [each for each in TRACKERS.values() if (folder / each.name).is_dir()]
        for files in (*measured, WORDS):
            if folder is None:
                make(files, Path(made))
            program = [sys.executable, __file__]
            where = ["--folder", str(folder or made), "--only", files.name, "--device", device]
            subprocess.run([*program, *where, *["--quick"] * quick], check=True)  # noqa: S603


if __name__ == "__main__":
    machine.run(main, __doc__)

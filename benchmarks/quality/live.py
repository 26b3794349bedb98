"""Scores live masks by the time that the network takes, and says how late they are.

``python -m benchmarks.quality.live [--clips NAME ...] [--data FOLDER]`` runs the network once on
each frame of whole clips, and then lets a clock of its own decide which of these answers come in
time: what a mask costs beside the network is not in the lateness. A slow network gets a smaller
input, as in `foremask.masking.live`.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.clips import DATA, Clip
from benchmarks.machine import header, row, run
from benchmarks.quality.scores import score
from foremask.masking.live import LATEST_S, LIVE_INPUTS, LiveInput
from foremask.media.frames import Frame, frame_of
from foremask.pipeline.stages.edges import Edges
from foremask.pipeline.values import MaskedFrame
from foremask.types import Alpha
from foremask.vision.network.network_protocol import InputSize
from foremask.vision.network.session import Session
from foremask.vision.resample import as_alpha
from foremask.vision.temporal.live_window import LiveWindow, live_mask
from foremask.weights.catalogue import compiled_dir_of, model_path

FPS = 24
STEP_S = 0.005
NETWORK_S = (0.1, 0.15, 0.2, 0.25, 0.33, 0.5)
CLIPS = ("bmx-trees", "dance-twirl", "dog", "drift-straight", "horsejump-high", "parkour")


@dataclass
class Stream:
    """A stream of frames at `FPS`, of which the network answers about some."""

    answers: Sequence[Alpha]  # to every frame
    masks: list[Alpha] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)
    asked: int = 0
    _waiting: deque[int] = field(default_factory=deque)

    def run(self, frames: Sequence[Frame], network_s: float) -> None:
        window = LiveWindow()
        now_s = 0.0
        shown = 0
        question: int | None = None
        answer_s = 0.0
        while len(self.masks) < len(frames):
            now_s += STEP_S
            if question is not None and now_s >= answer_s:
                self._give(window.learn(question, self.answers[question]), now_s)
                question = None
            while shown < len(frames) and shown / FPS <= now_s:
                window.add(shown, frames[shown])
                self._waiting.append(shown)
                shown += 1
            if question is None and self._waiting:
                question = self._waiting[-1]
                answer_s = now_s + network_s
                self.asked += 1
            late = [number for number in self._waiting if number / FPS < now_s - LATEST_S]
            if late and window.knows_any:
                self._give(window.extrapolated(late[-1]), now_s)

    def _give(self, masks: Iterable[Alpha], now_s: float) -> None:
        for mask in masks:
            self.late_s.append(now_s - self._waiting.popleft() / FPS)
            self.masks.append(mask)


def input_at(network_s: float) -> LiveInput:
    """The input of a network that takes so long for its own one."""
    return next(each for each in LIVE_INPUTS if network_s <= each.slow_s)


def answers_of(session: Session, frames: Sequence[Frame], size: InputSize | None) -> list[Alpha]:
    return [live_mask(session.infer(frame, size).alpha, frame) for frame in frames]


def jf_of(frames: Sequence[Frame], masks: Sequence[Alpha], truths: list[Alpha]) -> float:
    refined = Edges()(map(MaskedFrame, frames, masks))
    return score([as_alpha(levels) for _, levels in refined], truths).jf


def main(*, clips: Sequence[str] = CLIPS, data: Path = DATA / "davis") -> None:
    model = model_path()
    session = Session(model, kept_in=compiled_dir_of(model))
    columns = [f"{each:g} s" for each in NETWORK_S]
    header("clip", "frames", "single frames", *columns)
    table = []
    late: list[list[float]] = [[] for _ in NETWORK_S]
    for name in clips:
        clip = Clip(data / name)
        frames = [frame_of(pixels, index) for index, pixels in enumerate(clip.frames())]
        answers = {each: answers_of(session, frames, each.size) for each in LIVE_INPUTS}
        found = [jf_of(frames, answers[LIVE_INPUTS[0]], clip.truths())]
        for place, network_s in enumerate(NETWORK_S):
            chosen = input_at(network_s)
            stream = Stream(answers[chosen])
            stream.run(frames, network_s * chosen.share)
            found.append(jf_of(frames, stream.masks, clip.truths()))
            late[place] += stream.late_s
        table.append(found)
        row(name, len(frames), *(f"{each:.1f}" for each in found))
    row("mean", "", *(f"{each:.1f}" for each in np.mean(table, axis=0)))
    row("lateness p95", "", "", *(f"{np.quantile(each, 0.95):.2f} s" for each in late))


if __name__ == "__main__":
    run(main, __doc__)

"""Train the adapters and the new layers on one core, from where the delta's file is.

    OMP_NUM_THREADS=1 python -m training.train WEIGHTS ARCHIVES DELTA --until 18:30

WEIGHTS is what `foremask models pull` has pulled, ARCHIVES what training.import_pictures has
written. DELTA is read where it exists, and written every ten minutes and at the end (also after
SIGTERM); a log of the same name, .jsonl, grows beside it.
"""

import argparse
import datetime
import json
import math
import signal
import time
from collections import defaultdict
from pathlib import Path
from typing import TextIO

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from training import delta
from training.answers import REFINED
from training.losses import jaccard, sample_loss
from training.network import PromptedNetwork
from training.places import next_click
from training.prompts import rendered
from training.samples import Sample, Samples

PICTURES_A_STEP = 2
ADAPTER_RATE = 2e-4
NEW_LAYER_RATE = 4e-4
LAST_RATE_SHARE = 0.02
SCHEDULE_SAMPLES = 100_000
WARM_UP_STEPS = 30
"""Adam's moments start anew at each sitting."""
AVERAGED_STEPS = 600
"""The file holds a running average of the values over about so many steps."""
SIDES = (256, 384, 512)
SIDE_SHARES = ((0.6, 0.35, 0.05), (0.1, 0.5, 0.4))
LARGER_FROM_SAMPLES = 30_000
"""From here on the second shares hold: a sample at 512 costs four times one at 256."""
ROUNDS = (1, 2, 3, 4, 6, 8)
ROUND_SHARES = (0.5, 0.25, 0.12, 0.06, 0.04, 0.03)
SAVE_EVERY_S = 600
LOG_EVERY_STEPS = 25


def rate_share(samples: int, steps_of_sitting: int) -> float:
    """A cosine from 1 over all sittings, with a short rise at the start of each."""
    done = min(1.0, samples / SCHEDULE_SAMPLES)
    cosine = 0.5 * (1 + math.cos(math.pi * done))
    share = LAST_RATE_SHARE + (1 - LAST_RATE_SHARE) * cosine
    return share * min(1.0, (steps_of_sitting + 1) / WARM_UP_STEPS)


def end_of_sitting(until: str) -> float:
    """The next time the clock shows HH:MM, as a timestamp."""
    hour, minute = (int(part) for part in until.split(":"))
    now = datetime.datetime.now(datetime.UTC).astimezone()
    end = now.replace(hour=hour, minute=minute, second=0)
    if end <= now:
        end += datetime.timedelta(days=1)
    return end.timestamp()


class Trainer:
    def __init__(self, network: PromptedNetwork, rng: np.random.Generator) -> None:
        self.network = network
        self.rng = rng
        self.parameters = network.trained()
        self.average = {name: value.detach().clone() for name, value in self.parameters.items()}
        of_adapters = [p for name, p in self.parameters.items() if name.startswith("decoder.")]
        new = [p for name, p in self.parameters.items() if not name.startswith("decoder.")]
        self.full_rates = (ADAPTER_RATE, NEW_LAYER_RATE)
        groups = [{"params": of_adapters}, {"params": new}]
        self.optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.99), weight_decay=0.0)
        self.steps = 0

    def step(self, samples: list[Sample], share: float) -> tuple[int, list[tuple[str, float]]]:
        """One step; returns the number of answers with a gradient, and (prompt, J) of each."""
        for group, rate in zip(self.optimiser.param_groups, self.full_rates, strict=True):
            group["lr"] = rate * share
        images = torch.from_numpy(np.stack([sample.image for sample in samples]))
        stage2 = self.network.encode(images)
        self.give_earlier_masks(samples, stage2)
        rounds = int(self.rng.choice(ROUNDS, p=ROUND_SHARES))
        trained_rounds = min(rounds, 2)
        reached: list[tuple[str, float]] = []
        for number in range(rounds):
            trains = number in {0, rounds - 1}
            logits, scores = self.answer(stage2, samples, trains=trains)
            losses = []
            for sample, of_sample, score in zip(samples, logits, scores, strict=True):
                loss, chosen = sample_loss(of_sample, score, sample)
                losses.append(loss)
                if trains:
                    reached.append((described(sample), reached_j(of_sample, score, sample)))
                go_on(sample, torch.sigmoid(of_sample[chosen].detach()).numpy(), self.rng)
            if trains:
                (torch.stack(losses).mean() / trained_rounds).backward()
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), 2.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.steps += 1
        self.follow()
        return len(samples) * trained_rounds, reached

    def give_earlier_masks(self, samples: list[Sample], stage2: Tensor) -> None:
        """IS-Net's automatic masks, and the first clicks on masks that are there already."""
        wanting = [i for i, sample in enumerate(samples) if sample.wants_automatic_mask]
        if wanting:
            own = self.network.automatic_mask(stage2[wanting]).numpy()
            for i, mask in zip(wanting, own, strict=True):
                samples[i].prompt.earlier = mask[0]
        for sample in samples:
            if sample.wants_click and sample.prompt.earlier is not None:
                add_click(sample, sample.prompt.earlier, self.rng)

    def answer(
        self, stage2: Tensor, samples: list[Sample], *, trains: bool
    ) -> tuple[Tensor, Tensor]:
        """Logits at half the side, and scores."""
        side = stage2.shape[-1]
        prompts = torch.from_numpy(np.stack([rendered(s.prompt, side) for s in samples]))
        with torch.set_grad_enabled(trains):
            logits, scores = self.network(stage2, prompts)
            logits = F.interpolate(logits, scale_factor=2, mode="bilinear")
        return logits, scores

    def follow(self) -> None:
        """Move the average towards the values; early in a sitting faster."""
        pace = max(1 / AVERAGED_STEPS, 1 / (self.steps + 10))
        with torch.no_grad():
            for name, value in self.parameters.items():
                self.average[name].lerp_(value, pace)


def described(sample: Sample) -> str:
    return f"{sample.kind}, {len(sample.prompt.clicks)} clicks"


def reached_j(logits: Tensor, scores: Tensor, sample: Sample) -> float:
    """J of the answer that is shown first: of three that with the best score."""
    shown = REFINED
    if sample.prompt.is_single_click():
        shown = int(scores[:REFINED].argmax())
    target = torch.from_numpy(sample.target)
    return float(jaccard(logits[shown].detach(), target, torch.from_numpy(sample.known)))


def add_click(sample: Sample, mask: np.ndarray, rng: np.random.Generator) -> None:
    side = sample.known.shape[0]
    answer = cv2.resize(mask, (side, side), interpolation=cv2.INTER_LINEAR)
    click = next_click(answer, sample.target > 0.5, sample.known > 0.5, rng)
    if click is not None:
        sample.prompt.clicks.append(click)


def go_on(sample: Sample, answer: np.ndarray, rng: np.random.Generator) -> None:
    """The answer becomes the earlier mask, and a click says what is wrong in it."""
    sample.prompt.earlier = answer
    add_click(sample, answer, rng)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("weights", type=Path)
    parser.add_argument("archives", type=Path)
    parser.add_argument("delta", type=Path)
    parser.add_argument("--until", required=True, help="HH:MM")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    network = PromptedNetwork(arguments.weights)
    progress = delta.Progress()
    if arguments.delta.exists():
        progress = delta.load(arguments.delta, network)
    torch.manual_seed(progress.samples)
    rng = np.random.default_rng(progress.samples)
    trainer = Trainer(network, rng)
    samples = Samples(arguments.archives, rng)
    end = end_of_sitting(arguments.until)
    stops: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stops.append(number))
    log = arguments.delta.with_suffix(".jsonl").open("a")
    recent: dict[str, list[float]] = defaultdict(list)
    saved = time.monotonic()
    while time.time() < end and not stops:
        side = int(rng.choice(SIDES, p=SIDE_SHARES[progress.samples >= LARGER_FROM_SAMPLES]))
        share = rate_share(progress.samples, trainer.steps)
        count, reached = trainer.step(samples.batch(PICTURES_A_STEP, side), share)
        progress.samples += count
        progress.pictures += PICTURES_A_STEP
        progress.steps += 1
        for prompt, j in reached:
            recent[prompt].append(j)
        if progress.steps % LOG_EVERY_STEPS == 0:
            write_line(log, progress, share, recent)
            recent.clear()
        if time.monotonic() - saved > SAVE_EVERY_S:
            saved = time.monotonic()
            delta.save(arguments.delta, trainer.average, progress)
    delta.save(arguments.delta, trainer.average, progress)


def write_line(
    log: TextIO, progress: delta.Progress, share: float, recent: dict[str, list[float]]
) -> None:
    """One line of JSON: [mean J in percent, number] of each kind of prompt."""
    means = {
        prompt: [round(100 * float(np.mean(values)), 1), len(values)]
        for prompt, values in sorted(recent.items())
    }
    facts = {
        "samples": progress.samples,
        "pictures": progress.pictures,
        "steps": progress.steps,
        "rate share": round(share, 4),
        "cpu_s": round(time.process_time()),
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "j": means,
    }
    log.write(json.dumps(facts) + "\n")
    log.flush()


if __name__ == "__main__":
    main()

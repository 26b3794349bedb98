"""Train the adapters of the network for natural pictures.

    OMP_NUM_THREADS=1 python -m training.natural WEIGHTS ARCHIVES DELTA --minutes 60

WEIGHTS is what `foremask models pull` has pulled, ARCHIVES what training.import_pictures has
written. DELTA is read where it exists, and written at the end. The rate falls to zero over the
minutes.
"""

import argparse
import math
import time
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from training.losses import mask_loss
from training.natural_network import NaturalNetwork
from training.pictures import (
    UNKNOWN,
    Archive,
    Bgr,
    LabelledPicture,
    Labels,
    decoded,
    network_input,
)

SOURCE_SHARES = {"subjects": 0.88, "clothing": 0.12}
PICTURES_A_STEP = 2
RATE = 5e-4
WARM_UP_STEPS = 30
AVERAGED_STEPS = 200
SIDES = (512, 640)
SIDE_SHARES = (0.5, 0.5)
LEAST_ALIKE = 0.8
"""From this J on, IS-Net's own answer says where the outline is, which labels do not."""
OUTLINE_PX = 5
LOG_EVERY_STEPS = 50
HAS_BF16 = torch.cpu._is_avx512_bf16_supported()  # else bfloat16 is slower than float32

Random = np.random.Generator


class Pictures:
    def __init__(self, archives: Path, rng: Random) -> None:
        self.rng = rng
        self.archives = [
            Archive(archives / f"{source}.zip", held_out=False) for source in SOURCE_SHARES
        ]

    def draw(self, side: int) -> tuple[NDArray[np.float32], Labels]:
        """A picture of (3, side, side), changed at random, and labels of a quarter of the side."""
        archive = self.archives[int(self.rng.choice(2, p=list(SOURCE_SHARES.values())))]
        picture = archive.picture(int(self.rng.integers(len(archive))))
        if archive.source == "clothing":  # its labels are garments
            picture = LabelledPicture(picture.name, picture.bgr, np.minimum(picture.labels, 1))
        bgr, labels = cropped(picture, self.rng)
        if self.rng.random() < 0.5:
            bgr, labels = bgr[:, ::-1], labels[:, ::-1]
        size = (side // 4, side // 4)
        small = cv2.resize(labels.copy(), size, interpolation=cv2.INTER_NEAREST)
        return network_input(recoloured(bgr.copy(), self.rng), side), small.astype(np.uint8)


def cropped(picture: LabelledPicture, rng: Random) -> tuple[Bgr, Labels]:
    """In half of the calls a part that shows some of the subject; in some, with a wide border."""
    bgr, labels = picture.bgr, picture.labels
    height, width = labels.shape
    kind = rng.random()
    if kind < 0.5:
        for _ in range(10):
            share = rng.uniform(0.55, 1.0)
            rows = int(height * share)
            columns = int(width * share * min(1.0, rng.uniform(0.8, 1.25)))
            top = int(rng.integers(0, height - rows + 1))
            left = int(rng.integers(0, width - columns + 1))
            part = np.s_[top : top + rows, left : left + columns]
            if (labels[part] == 1).mean() > 0.02:
                return bgr[part], labels[part]
    elif kind < 0.65:
        share = rng.uniform(0.05, 0.25)
        rows, columns = int(height * share), int(width * share)
        sides = (rows, rows, columns, columns)
        wide = cv2.copyMakeBorder(bgr, *sides, cv2.BORDER_REFLECT_101)
        unknown = cv2.copyMakeBorder(labels, *sides, cv2.BORDER_CONSTANT, value=UNKNOWN)
        return np.asarray(wide, np.uint8), np.asarray(unknown, np.uint8)
    return bgr, labels


def recoloured(bgr: Bgr, rng: Random) -> Bgr:
    """Other light and colours, grey, the blur of a motion, or a coarse JPEG: each in some calls."""
    if rng.random() < 0.6:
        light = rng.uniform(0.7, 1.3) * rng.uniform(0.92, 1.08, 3)
        bgr = np.clip(bgr * light + rng.uniform(-20, 20), 0, 255).astype(np.uint8)
    if rng.random() < 0.08:
        grey = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
        bgr = np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), np.uint8)
    if rng.random() < 0.25:
        length = int(rng.integers(3, 12))
        angle = rng.uniform(0, math.pi)
        middle = (length - 1) / 2
        reach = middle * np.array([math.cos(angle), math.sin(angle)])
        kernel = np.zeros((length, length), np.float32)
        ends = [(middle + sign * reach).round().astype(int).tolist() for sign in (-1, 1)]
        cv2.line(kernel, ends[0], ends[1], 1.0)
        bgr = np.asarray(cv2.filter2D(bgr, -1, kernel / kernel.sum()), np.uint8)
    if rng.random() < 0.3:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 90))]
        bgr = decoded(cv2.imencode(".jpg", bgr, quality)[1].tobytes(), cv2.IMREAD_COLOR)
    return bgr


def with_outline(own: Tensor, target: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Targets and their places, with IS-Net's own answer round the outline, where it is good."""
    target, weighed = target.clone(), known.clone()
    for i in range(len(target)):
        answer = (own[i] > 0.5).float() * known[i]
        subject = target[i] * known[i]
        either = ((answer + subject) > 0).float().sum().clamp(min=1)
        if float((answer * subject).sum() / either) > LEAST_ALIKE:
            grown = F.max_pool2d(subject[None, None], OUTLINE_PX, 1, OUTLINE_PX // 2)[0, 0] > 0
            near = grown & (known[i] == 0)
            target[i][near] = own[i][near]
            weighed[i][near] = 1
    return target, weighed


def step(network: NaturalNetwork, pictures: Pictures, side: int) -> Tensor:
    """The loss of some pictures."""
    drawn = [pictures.draw(side) for _ in range(PICTURES_A_STEP)]
    images = torch.from_numpy(np.stack([image for image, _ in drawn]))
    labels = torch.from_numpy(np.stack([each for _, each in drawn]))
    known = (labels != UNKNOWN).float()
    subject = (labels == 1).float()
    with torch.autocast("cpu", torch.bfloat16, enabled=HAS_BF16):
        stage2 = network.encode(images)
        with torch.no_grad():
            own = torch.sigmoid(network.decode(stage2, adapt=False).float())
        logits = network.decode(stage2, adapt=True).float()
    target, weighed = with_outline(own, subject, known)
    return mask_loss(logits, target, known, weighed).mean()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("weights", type=Path)
    parser.add_argument("archives", type=Path)
    parser.add_argument("delta", type=Path)
    parser.add_argument("--minutes", type=float, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    network = NaturalNetwork(arguments.weights)
    parameters = network.trained()
    samples = 0
    if arguments.delta.exists():
        samples = load(arguments.delta, network)
    rng = np.random.default_rng(samples)
    pictures = Pictures(arguments.archives, rng)
    average = {name: each.detach().clone() for name, each in parameters.items()}
    optimiser = torch.optim.AdamW(parameters.values(), betas=(0.9, 0.99), weight_decay=0.0)
    began = time.monotonic()
    steps = 0
    recent: list[float] = []
    while (share := (time.monotonic() - began) / (60 * arguments.minutes)) < 1:
        cosine = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share))
        for group in optimiser.param_groups:
            group["lr"] = RATE * cosine * min(1.0, (steps + 1) / WARM_UP_STEPS)
        loss = step(network, pictures, int(rng.choice(SIDES, p=SIDE_SHARES)))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters.values(), 2.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        steps += 1
        samples += PICTURES_A_STEP
        pace = max(1 / AVERAGED_STEPS, 1 / (steps + 10))
        with torch.no_grad():
            for name, each in parameters.items():
                average[name].lerp_(each, pace)
        recent.append(float(loss.detach()))
        if steps % LOG_EVERY_STEPS == 0:
            print(samples, round(float(np.mean(recent)), 3), flush=True)
            recent.clear()
    save(arguments.delta, average, samples)


def save(path: Path, values: dict[str, Tensor], samples: int) -> None:
    arrays = {name: value.numpy().astype(np.float16) for name, value in values.items()}
    part = path.with_suffix(".part.npz")
    np.savez_compressed(part, samples=np.int64(samples), **arrays)
    part.replace(path)


def load(path: Path, network: NaturalNetwork) -> int:
    """Put the file's values into a network; returns the number of samples it has seen."""
    with np.load(path) as arrays, torch.no_grad():
        for name, parameter in network.trained().items():
            parameter.copy_(torch.from_numpy(arrays[name].astype(np.float32)))
        return int(arrays["samples"])


if __name__ == "__main__":
    main()

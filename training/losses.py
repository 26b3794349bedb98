"""How far answers are from what is meant."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from training.answers import REFINED
from training.samples import Sample

LEAST_LOSS_SHARE = 0.5
"""The rest of a single click's loss holds part, thing and all to their own masks."""
SCORE_SHARE = 0.3


def mask_loss(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Cross-entropy, less where it is nearly right, and soft IoU; means over known pixels."""
    probability = torch.sigmoid(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    weight = known * (0.25 + 1.5 * (probability - target).abs().detach().sqrt())
    entropy = (entropy * weight).sum((-2, -1)) / known.sum((-2, -1)).clamp(min=1)
    both = (probability * target * known).sum((-2, -1))
    either = ((probability + target - probability * target) * known).sum((-2, -1))
    return 2 * entropy + 1 - (both + 1) / (either + 1)


def jaccard(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """J of masks cut at one half."""
    found = (logits > 0) & (known > 0.5)
    wanted = (target > 0.5) & (known > 0.5)
    both = (found & wanted).sum((-2, -1))
    either = (found | wanted).sum((-2, -1))
    return both / either.clamp(min=1)


def sample_loss(logits: Tensor, scores: Tensor, sample: Sample) -> tuple[Tensor, int]:
    """The loss of (4, h, w) logits and (4,) scores, and which answer is the one to go on with."""
    known = torch.from_numpy(sample.known)
    target = torch.from_numpy(sample.target)
    reached = jaccard(logits.detach(), target, known)
    if not sample.prompt.is_single_click():
        score_loss = F.binary_cross_entropy_with_logits(scores[REFINED], reached[REFINED])
        loss = mask_loss(logits[REFINED], target, known) + SCORE_SHARE * score_loss
        return loss, REFINED
    of_answers = mask_loss(logits[:REFINED], target.expand_as(logits[:REFINED]), known)
    own = [
        mask_loss(logits[level], torch.from_numpy(mask), known)
        for level, mask in sample.levels.items()
    ]
    score_loss = F.binary_cross_entropy_with_logits(scores[:REFINED], reached[:REFINED])
    loss = LEAST_LOSS_SHARE * of_answers.min()
    loss = loss + (1 - LEAST_LOSS_SHARE) * torch.stack(own).mean()
    return loss + SCORE_SHARE * score_loss, int(of_answers.argmin())

"""IS-Net whose decoder also reads prompts: clicks, strokes, a box and an earlier mask."""

from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from training.answers import ANSWERS
from training.isnet import Decoder, Encoder, halved, read_weights
from training.prompts import CHANNELS

PROMPT_FEATURES = 64
ANSWER_FEATURES = 48
SCORE_FEATURES = 32
STAGE_CHANNELS = (128, 256, 512, 512)  # outputs of stages 2 to 5
KERNELS = (3, 3, 1, 1)


class Prompts(nn.Module):
    """What the prompts add to the outputs of stages 2 to 5; it starts at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(CHANNELS, 32, 5, padding=2)
        self.second = nn.Conv2d(32, PROMPT_FEATURES, 3, padding=1)
        self.additions = nn.ModuleList(
            nn.Conv2d(PROMPT_FEATURES, channels, kernel, padding=kernel // 2)
            for channels, kernel in zip(STAGE_CHANNELS, KERNELS, strict=True)
        )
        for layer in self.additions:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, prompts: Tensor) -> list[Tensor]:
        x = F.relu(self.first(prompts))
        x = F.relu(self.second(x))
        additions = []
        for level, layer in enumerate(self.additions):
            if level > 0:
                x = halved(x)
            additions.append(layer(x))
        return additions


class Answers(nn.Module):
    """Logits of the four answers, each with a guess of its J.

    An answer is IS-Net's own side output of the features plus a change that starts at zero. The
    change is made of the features and once more of the prompts, so that an earlier mask is kept
    where nothing speaks against it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(64 + CHANNELS, ANSWER_FEATURES, 3, padding=1)
        self.change = nn.Conv2d(ANSWER_FEATURES, ANSWERS, 3, padding=1)
        self.score_hidden = nn.Linear(2 * ANSWER_FEATURES + 2, SCORE_FEATURES)
        self.score = nn.Linear(SCORE_FEATURES, 1)
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(self.change.bias)

    def forward(self, features: Tensor, own: Tensor, prompts: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 4, h, w) logits and (B, 4) logits of J."""
        hidden = F.relu(self.hidden(torch.cat([features, prompts], 1)))
        logits = own + self.change(hidden)
        masks = torch.sigmoid(logits.detach())
        area = masks.mean((2, 3))
        inside = torch.einsum("bchw,bkhw->bkc", hidden, masks) / hidden[0, 0].numel()
        inside = inside / (area[..., None] + 1e-4)
        everywhere = hidden.mean((2, 3))[:, None].expand_as(inside)
        doubt = (4 * masks * (1 - masks)).mean((2, 3)) / (area + 1e-2)
        facts = torch.cat([inside, everywhere, area[..., None], doubt[..., None]], 2)
        return logits, self.score(F.relu(self.score_hidden(facts)))[..., 0]


class PromptedNetwork(nn.Module):
    def __init__(self, weights_path: Path) -> None:
        super().__init__()
        weights = read_weights(weights_path)
        self.encoder = Encoder(weights)
        self.decoder = Decoder(weights)
        self.prompts = Prompts()
        self.answers = Answers()

    def encode(self, image: Tensor) -> Tensor:
        return self.encoder(image)

    def forward(self, stage2: Tensor, prompts: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and scores from the encoder's output and (B, CHANNELS, h, w) of the same size."""
        features = self.decoder(stage2, self.prompts(prompts))
        own = self.decoder.side2(features, adapt=False)
        return self.answers(features, own, prompts)

    @torch.no_grad()
    def automatic_mask(self, stage2: Tensor) -> Tensor:
        """IS-Net's mask (B, 1, h, w) in 0 to 1, as if nothing had been trained."""
        features = self.decoder(stage2, None)
        return torch.sigmoid(self.decoder.side2(features, adapt=False))

    def trained(self) -> dict[str, nn.Parameter]:
        """The parameters that training changes, by name."""
        return {name: value for name, value in self.named_parameters() if value.requires_grad}

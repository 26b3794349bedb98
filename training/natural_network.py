"""IS-Net without prompts, whose adapters learn what is foreground in natural pictures."""

from pathlib import Path

import torch
from torch import Tensor, nn

from training.isnet import Decoder, Encoder, read_weights

UNPROMPTED = [0, 0, 0, 0]
"""What is added to the stages where there are no prompts; the adapters act all the same."""


class NaturalNetwork(nn.Module):
    """Stages 1 and 2 as pulled, adapters behind them; the output is side 2, as in foremask.

    Stage 1d, which only side 1 needs, is left out: it would take a third of the time.
    """

    def __init__(self, weights_file: Path) -> None:
        super().__init__()
        weights = read_weights(weights_file)
        self.encoder = Encoder(weights)
        self.decoder = Decoder(weights)

    @torch.no_grad()
    def encode(self, image: Tensor) -> Tensor:
        """The output of stage 2, at a quarter of the input's size."""
        return torch.as_tensor(self.encoder(image))

    def decode(self, stage2: Tensor, *, adapt: bool) -> Tensor:
        """Logits at a quarter of the input's size: (pictures, rows, columns)."""
        x = self.decoder(stage2, UNPROMPTED if adapt else None)
        return torch.as_tensor(self.decoder.side2(x, adapt=False))[:, 0]

    def trained(self) -> dict[str, nn.Parameter]:
        return {name: each for name, each in self.named_parameters() if each.requires_grad}

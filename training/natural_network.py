"""IS-Net in full, without prompts, whose adapters learn what is foreground in natural pictures."""

from pathlib import Path

import torch
from torch import Tensor, nn

from training.isnet import Convolution, Decoder, Encoder, UNetStage, enlarged, halved, read_weights

UNPROMPTED = [0, 0, 0, 0]
"""What is added to the stages where there are no prompts; the adapters act all the same."""


class NaturalNetwork(nn.Module):
    """Stages 1 and 2 as pulled, adapters behind them; the output is IS-Net's own, side 1."""

    def __init__(self, weights_file: Path) -> None:
        super().__init__()
        weights = read_weights(weights_file)
        self.encoder = Encoder(weights)
        self.decoder = Decoder(weights)
        self.stage1d = UNetStage(weights, "stage1d", 7, adapted=True)
        self.side1 = Convolution(weights, "side1", adapted=False, relu=False)

    @torch.no_grad()
    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The outputs of stages 1 and 2: at a half and a quarter of the input's size."""
        stage1 = self.encoder.stage1(self.encoder.entry(image, adapt=False), adapt=False)
        return stage1, self.encoder.stage2(halved(stage1), adapt=False)

    def decode(self, stage1: Tensor, stage2: Tensor, *, adapt: bool) -> tuple[Tensor, Tensor]:
        """Logits of sides 1 and 2, at a half and a quarter of the input's size."""
        x = self.decoder(stage2, UNPROMPTED if adapt else None)
        side2 = self.decoder.side2(x, adapt=False)
        x = self.stage1d(torch.cat([enlarged(x), stage1], 1), adapt=adapt)
        return self.side1(x, adapt=False), side2

    def trained(self) -> dict[str, nn.Parameter]:
        return {name: each for name, each in self.named_parameters() if each.requires_grad}

"""Write IS-Net with the adapters of the network for natural pictures added to its weights.

    python -m training.merge WEIGHTS DELTA TARGET.onnx

An adapter is a convolution of low rank, so it adds to a convolution's weights: the file that is
written runs as IS-Net does, and costs the same.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from training.isnet import Convolution, layer_name, read_weights
from training.natural import load
from training.natural_network import NaturalNetwork


def main() -> None:
    weights_file, delta, target = (Path(each) for each in sys.argv[1:4])
    network = NaturalNetwork(weights_file)
    load(delta, network)
    names = {
        weight.numpy().tobytes(): name for name, (weight, _) in read_weights(weights_file).items()
    }
    model = onnx.load(weights_file)
    nodes = {layer_name(each.name): each for each in model.graph.node if each.op_type == "Conv"}
    constants = {each.name: each for each in model.graph.initializer}
    for layer in network.modules():
        if not isinstance(layer, Convolution) or layer.down is None or layer.up is None:
            continue
        node = nodes[names[layer.weight.detach().numpy().tobytes()]]
        down, up = (each.detach().numpy() for each in (layer.down, layer.up))
        change = np.einsum("or,rchw->ochw", up[:, :, 0, 0], down)
        replace(constants[node.input[1]], layer.weight.detach().numpy() + change)
        assert layer.bias is not None
        replace(constants[node.input[2]], layer.bias.detach().numpy())
    onnx.save(model, target)


def replace(constant: onnx.TensorProto, values: np.ndarray) -> None:
    of_type = numpy_helper.to_array(constant).dtype
    constant.CopyFrom(numpy_helper.from_array(values.astype(of_type), constant.name))


if __name__ == "__main__":
    main()

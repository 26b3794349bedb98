"""Checks that an ONNX file is data alone: ONNX's own operators, and weights in the file itself.

An ONNX file is a protobuf message. It is read without the package onnx, which is an extra.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from foremask.errors import ModelUnavailable

# The numbers of protobuf fields, from onnx.proto.
_MODEL_GRAPH: Final = 7
_MODEL_FUNCTIONS: Final = 25
_FUNCTION_NODES: Final = 7
_FUNCTION_DOMAIN: Final = 10
_GRAPH_NODES: Final = 1
_NODE_ATTRIBUTES: Final = 5
_NODE_DOMAIN: Final = 7
_TENSOR_LOCATION: Final = 14
_EXTERNAL: Final = 1
# A graph's initializers and sparse initializers; an attribute's tensors, and its inner graphs.
_GRAPH_TENSORS: Final = {5: False, 15: True}
_ATTRIBUTE_TENSORS: Final = {5: False, 10: False, 22: True, 23: True}
_ATTRIBUTE_GRAPHS: Final = (6, 11)
_SPARSE_PARTS: Final = (1, 2)

_NO_MESSAGE: Final = "it is no protobuf message"
_KNOWN_DOMAINS: Final = frozenset({"", "ai.onnx", "com.microsoft"})
"""ONNX's own operators, and those that ONNX Runtime and OpenVINO add for quantized networks."""


def check_is_data(path: Path) -> None:
    """Raise ModelUnavailable for a file that is no ONNX, or is more than data.

    More than data are names of other files, and operators that ONNX does not define.
    """
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        _check_model(memoryview(mapped), path.name)
    except (OSError, ValueError, IndexError) as error:
        raise ModelUnavailable(
            f"{path.name} is no network that runs here: it is no ONNX file ({error})"
        ) from error


def _check_model(model: memoryview, name: str) -> None:
    parts = list(_fields(model))
    graphs = [value for number, value in parts if number == _MODEL_GRAPH]
    if not graphs:
        raise ValueError("it has no graph")
    functions = [value for number, value in parts if number == _MODEL_FUNCTIONS]
    own = {
        _text(value)
        for function in functions
        for number, value in _fields(_message(function))
        if number == _FUNCTION_DOMAIN
    }
    check = _Check(name, _KNOWN_DOMAINS | own)
    for graph in graphs:
        check.graph(_message(graph))
    for function in functions:
        for number, value in _fields(_message(function)):
            if number == _FUNCTION_NODES:
                check.node(_message(value))


class _Check:
    def __init__(self, name: str, domains: frozenset[str]) -> None:
        self._name = name
        self._domains = domains

    def graph(self, graph: memoryview) -> None:
        for number, value in _fields(graph):
            if number == _GRAPH_NODES:
                self.node(_message(value))
            elif number in _GRAPH_TENSORS:
                self._tensor(_message(value), is_sparse=_GRAPH_TENSORS[number])

    def node(self, node: memoryview) -> None:
        for number, value in _fields(node):
            if number == _NODE_DOMAIN and _text(value) not in self._domains:
                raise ModelUnavailable(
                    f"{self._name} has operators of {_text(value)!r}: foremask runs ONNX's own"
                    " operators only, so export it without custom ones"
                )
            if number == _NODE_ATTRIBUTES:
                self._attribute(_message(value))

    def _attribute(self, attribute: memoryview) -> None:
        for number, value in _fields(attribute):
            if number in _ATTRIBUTE_GRAPHS:
                self.graph(_message(value))
            elif number in _ATTRIBUTE_TENSORS:
                self._tensor(_message(value), is_sparse=_ATTRIBUTE_TENSORS[number])

    def _tensor(self, tensor: memoryview, *, is_sparse: bool) -> None:
        for number, value in _fields(tensor):
            if is_sparse and number in _SPARSE_PARTS:
                self._tensor(_message(value), is_sparse=False)
            elif not is_sparse and number == _TENSOR_LOCATION and value == _EXTERNAL:
                raise ModelUnavailable(
                    f"{self._name} has weights in other files (ONNX external data): save it as one"
                    " file"
                )


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield the number and the value of each field; a value of fixed size is left out."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number = key >> 3
        if number == 0:
            raise ValueError(_NO_MESSAGE)
        match key & 7:
            case 0:
                value, at = _varint(message, at)
                yield number, value
            case 1:
                at += 8
            case 2:
                size, at = _varint(message, at)
                if at + size > len(message):
                    raise ValueError("it ends too early")
                yield number, message[at : at + size]
                at += size
            case 5:
                at += 4
            case _:
                raise ValueError(_NO_MESSAGE)


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError(_NO_MESSAGE)


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError(_NO_MESSAGE)  # noqa: TRY004  the file is wrong, not the caller
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_message(value)).decode("utf-8", "replace")[:100]

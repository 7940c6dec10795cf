"""Windows of convolutions and pooling, one-dimensional ones as images of one row."""

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir

from edgec.compiler.graph import attribute, shape_of
from edgec.compiler.operators import view
from edgec.compiler.operators.builder import Builder, S
from edgec.compiler.operators.view import View


@dataclass(frozen=True)
class Window:
    """Height first, width second."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]
    """Top, left, bottom, right."""


def refusal(node: onnx_ir.Node) -> str | None:
    """Return why the node's window is none that kernels know, or None."""
    shape = shape_of(node.inputs[0]) if node.inputs[0] is not None else None
    if shape is None or len(shape) not in (3, 4):
        return "only windows of one or two dimensions have an integer kernel"
    if attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return "auto_pad isn't explicit"
    return "negative pads have no integer kernel" if min(attribute(node, "pads", [0])) < 0 else None


def window(node: onnx_ir.Node, kernel: tuple[int, ...]) -> Window:
    """Return the node's window over an image; `kernel` is its extent, [width] or [height, width]."""
    rank = len(kernel)
    strides, dilations = (attribute(node, name, [1] * rank) for name in ("strides", "dilations"))
    pads = attribute(node, "pads", [0] * 2 * rank)
    if rank == 1:
        kernel, strides, dilations, pads = (
            (1, *kernel),
            (1, *strides),
            (1, *dilations),
            (0, pads[0], 0, pads[1]),
        )
    return Window(
        (kernel[0], kernel[1]), (strides[0], strides[1]), (dilations[0], dilations[1]),
        (pads[0], pads[1], pads[2], pads[3]),
    )  # fmt: skip


def transposed_pads(automatic: str, given: Sequence[int] | None, totals: Sequence[int]) -> list[int]:
    """Return the pads in front of the spatial dimensions of a ConvTranspose.

    `automatic` is its auto_pad, `given` its pads, None where it has an output_shape instead; `totals` is by
    how much it is to be cut in all then, of which the half that ONNX says is in front.
    """
    if automatic == "VALID":
        return [0] * len(totals)
    if automatic == "NOTSET" and given is not None:
        return list(given[: len(totals)])
    return [total // 2 if automatic == "SAME_UPPER" else total - total // 2 for total in totals]


def image(builder: Builder, value: S, name: str) -> S:
    """Return an [N, C, H, W] tensor in the order that kernels want; [N, C, W] is one row."""
    shape = value.view.shape
    if len(shape) == 3:
        value = builder.reshape(value, (shape[0], shape[1], 1, shape[2]), name)
    return builder.natural(value, name)


def result(shape: tuple[int, ...]) -> View:
    """Return how a result of ONNX shape [N, C, H, W] or [N, C, W] lies: channels innermost."""
    return view.ordered(shape, (0, *range(2, len(shape)), 1))

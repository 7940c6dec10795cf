"""What threads share out of a convolution: pixels, or the output channels where weights are the larger part.

Every tile of pixels reads all weights, and every part of the output channels reads all pixels. The larger of
the two is better read once: by one thread, from memory to its L2 cache.
"""

from dataclasses import replace

from edgec.kernels import tir
from edgec.kernels.codegen import stripe
from edgec.kernels.codegen.stripe import Geometry
from edgec.targets.descriptor import Target

# Size of weights by that of activations from which on parts gain: every thread copies the input into a stripe
# of its own, which at less takes what it saves to read weights once (measured on Zen 5, two threads).
_LARGER = 2.0


def over_channels(
    shape: Geometry, weights: int, lanes: int, target: Target, chunks: int = 1
) -> Geometry | None:
    """Return the geometry whose tiles are parts of the output channels, of all pixels each.

    `weights` are bytes, `lanes` the outputs of a vector; one of `chunks` of the reduction is used at a time.
    None where threads had better share out pixels.
    """
    whole = replace(shape, tile_rows=shape.rows, tile_columns=shape.columns)
    activations = whole.stripe_rows * whole.pitch * tir.lanes_bytes(whole.dtype)
    near = weights <= target.l1d_bytes  # so that all tiles but the first find them there
    if shape.groups > 1 or shape.images > 1 or near or weights < _LARGER * activations:
        return None
    width = lanes * shape.register_tile[1]
    # Beside the activations the L2 cache holds the block of weights in use and the next one.
    if activations + 2 * weights * width / shape.outputs / chunks > target.l2_bytes:
        return None
    parts = _parts(shape.outputs, width)
    return replace(whole, parts=parts) if parts > 1 else None


def unevenness(outputs: int, lanes: int, register_tile: tuple[int, int]) -> float:
    """Return the size of the largest part by that of the average one."""
    width = lanes * register_tile[1]
    blocks, parts = -(-outputs // width), _parts(outputs, width)
    return min(outputs, -(-blocks // parts) * width) * parts / outputs


def _parts(outputs: int, width: int) -> int:
    """Return how many parts blocks of `width` outputs make, none of them empty."""
    blocks = -(-outputs // width)
    return -(-blocks // -(-blocks // stripe.LEAST_TILES))

"""The ONNX operators that have an integer kernel. A new one is a line in the table of its family."""

from edgec.compiler.operators.arrangement import ARRANGEMENTS, REPETITIONS
from edgec.compiler.operators.binary import BINARIES
from edgec.compiler.operators.layer import Layer
from edgec.compiler.operators.pooling import MAX_POOLS, REDUCTIONS
from edgec.compiler.operators.products import PRODUCTS

LAYERS: dict[str, Layer] = PRODUCTS | BINARIES | REDUCTIONS | ARRANGEMENTS
"""Operators that compute numbers of a new scale: they need a QuantizeLinear behind them."""

SAME_SCALE: dict[str, Layer] = MAX_POOLS | REPETITIONS
"""Operators whose results are elements of their input: int8 stays as it is."""

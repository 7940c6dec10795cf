"""Write operators.md, the page of ONNX operators with an integer form, from the compiler's own tables.

Run `python docs/operators.py` after changing a table; a test compares the page with them.
"""

from pathlib import Path

from edgec.compiler.compress.policy import RULES
from edgec.compiler.operators import unary
from edgec.compiler.operators.movement import MOVEMENTS
from edgec.compiler.operators.products import PRODUCTS
from edgec.compiler.operators.table import LAYERS, SAME_SCALE

PAGE = Path(__file__).with_suffix(".md")

PRODUCT, WITH_SCALE, WITHOUT_SCALE = "product of weights", "new scale", "its input's scale"
MOVEMENT, TABLE = "no arithmetic", "table of 256 bytes"
LIMITS = {
    "AveragePool": "1-D and 2-D, explicit padding, no dilation",
    "Clip": "constant limits; free behind a product, an addition or a mean",
    "Conv": "1-D and 2-D; constant weights; any stride, padding, dilation and number of groups",
    "Gather": "one constant index along an axis",
    "Gemm": "constant weights, A not transposed",
    "MatMul": "the second operand a constant matrix",
    "MaxPool": "1-D and 2-D, explicit padding, no indices",
    "Pad": "constant padding by constant amounts, none negative, no chosen axes",
    "ReduceMean": "constant axes",
    "Relu": "free behind a product, an addition or a mean",
    "Resize": "nearest neighbour of images by whole factors, where that is repetition",
    "Slice": "constant bounds",
}
"""What of the operator has an integer form, where that isn't all of it."""

NORMALIZED = {"MatMul": "Gemm"}
"""What the frontend makes of an operator before scales are chosen."""

HEAD = """\
# Operators that run in int8

Written by `python docs/operators.py` from the compiler's tables; don't edit.

A node runs in int8 when its operator is in this table, the tensors around it are quantized (by edgec, or by
the QuantizeLinear and DequantizeLinear nodes of a QDQ model), and its limits are met. Any other node becomes
part of a float island, if it can be compiled to what ONNX defines; `edgec build` names each with the reason.
What neither can do is an error that lists all such nodes.

*Computed as*: a **product of weights** and the operators with a **new scale** compute int8 results of a scale
of their own; those at **its input's scale** keep it; **no arithmetic** moves elements, mostly without a copy;
a **table of 256 bytes** takes in the whole chain of such operators around it. *Quantized by edgec*: whether
edgec chooses the scales when it is given a float model; the others run in int8 in models that come as QDQ.
BatchNormalization is folded into the layer before it.

| operator | computed as | quantized by edgec | limits |
|---|---|---|---|
"""


def computed_as() -> dict[str, str]:
    """Return every operator with an integer form, and the kind of form."""
    scalar = {name: f"{TABLE}, with one constant operand" for name in unary.WITH_SCALAR}
    found = (
        scalar
        | dict.fromkeys(unary.PLAIN | unary.WITH_ATTRIBUTES, TABLE)
        | dict.fromkeys(MOVEMENTS, MOVEMENT)
    )
    for name in LAYERS:
        kind = PRODUCT if name in PRODUCTS else WITH_SCALE
        found[name] = f"{kind}; {found[name]}" if name in scalar else kind
    return found | dict.fromkeys(SAME_SCALE, WITHOUT_SCALE)


def page() -> str:
    """Return the page's text."""
    rows = []
    for name, kind in sorted(computed_as().items()):
        quantized = "yes" if NORMALIZED.get(name, name) in RULES else "no"
        rows.append(f"| {name} | {kind} | {quantized} | {LIMITS.get(name, '')} |\n")
    return HEAD + "".join(rows)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

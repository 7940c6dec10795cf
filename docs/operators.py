"""Write operators.md, the page of ONNX operators with an integer form, from the compiler's own tables.

Run `python docs/operators.py` after changing a table; a test compares the page with them.
"""

import textwrap
from pathlib import Path

from edgec.compiler.frontend.tflite.table import ROWS
from edgec.compiler.operators.row import OnnxOperator
from edgec.compiler.operators.table import OPERATORS

PAGE = Path(__file__).with_suffix(".md")

PRODUCT, WITH_SCALE, WITHOUT_SCALE = "product of weights", "new scale", "its input's scale"
MOVEMENT, TABLE = "no arithmetic", "table of 256 bytes"
NORMALIZED = {"MatMul": "Gemm"}
"""What the frontend makes of an operator before scales are chosen."""

TFLITE = """
## Operators of TensorFlow Lite

A `.tflite` file is read as the ONNX model that it stands for, by these builtin operators. Refused by name are
all others, custom ones, variables, 16-bit activations (int16x8) and sparse weights.

"""

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


def computed_as(row: OnnxOperator) -> str:
    """Return the kinds of form that an operator has."""
    kinds = []
    if row.integer is not None and row.integer.keeps_scale:
        kinds.append(WITHOUT_SCALE)
    elif row.integer is not None:
        kinds.append(PRODUCT if row.role == "product" else WITH_SCALE)
    if row.move is not None:
        kinds.append(MOVEMENT)
    if row.function is not None:
        kinds.append(TABLE)
    if row.of_two is not None:
        kinds.append(f"{TABLE}, with one constant operand")
    return "; ".join(kinds)


def page() -> str:
    """Return the page's text."""
    rows = []
    for name, row in sorted(OPERATORS.items()):
        quantized = "yes" if OPERATORS[NORMALIZED.get(name, name)].quantized else "no"
        rows.append(f"| {name} | {computed_as(row)} | {quantized} | {row.limits} |\n")
    read = textwrap.fill(", ".join(sorted(ROWS)), 110, break_long_words=False)
    return HEAD + "".join(rows) + TFLITE + f"{read}.\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

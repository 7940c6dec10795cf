"""edgec's own reading of operators that TVM's converters lack, or get wrong at some corner."""

from edgec.compiler.lower.converters.convolutions import CONVOLUTIONS
from edgec.compiler.lower.converters.elementwise import ELEMENTWISE
from edgec.compiler.lower.converters.given import Converter
from edgec.compiler.lower.converters.quantized import QUANTIZED
from edgec.compiler.lower.converters.reductions import REDUCTIONS
from edgec.compiler.lower.converters.resize import RESIZES
from edgec.compiler.lower.converters.scatter import SCATTERS
from edgec.compiler.lower.converters.shapes import SHAPES

CONVERTERS: dict[str, Converter] = (
    SHAPES | ELEMENTWISE | REDUCTIONS | RESIZES | CONVOLUTIONS | SCATTERS | QUANTIZED
)
"""By operator."""

"""edgec's own reading of operators that TVM's converters lack, or get wrong at some corner."""

from edgec.compiler.lower.islands.converters.convolutions import CONVOLUTIONS
from edgec.compiler.lower.islands.converters.elementwise import ELEMENTWISE
from edgec.compiler.lower.islands.converters.given import Converter
from edgec.compiler.lower.islands.converters.quantized import QUANTIZED
from edgec.compiler.lower.islands.converters.reductions import REDUCTIONS
from edgec.compiler.lower.islands.converters.resize import RESIZES
from edgec.compiler.lower.islands.converters.scatter import SCATTERS
from edgec.compiler.lower.islands.converters.shapes import SHAPES

CONVERTERS: dict[str, Converter] = (
    SHAPES | ELEMENTWISE | REDUCTIONS | RESIZES | CONVOLUTIONS | SCATTERS | QUANTIZED
)
"""By operator."""

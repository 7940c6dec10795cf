"""Arrays as a model's values are: of any dtype and shape."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
"""Its dtype is known when the program runs, by the tensor that it is for."""
Arrays = Mapping[str, Array]
"""By the tensor's name."""

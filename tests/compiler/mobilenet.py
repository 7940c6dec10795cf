"""MobileNetV1-0.25 for visual wake words, with random weights: what memory and exactness are tested on."""

import numpy as np
import onnx

from tests.compiler import onnx_models

# Output channels and stride of each depthwise separable block (Howard et al., 2017, table 1), a quarter wide.
_BLOCKS = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2), (256, 1))


def mobilenet() -> onnx.ModelProto:
    """Return the network: an image of 96x96x3, channels innermost as cameras have them, and two classes."""
    rng = np.random.default_rng(0)

    def weights(*shape: int) -> np.ndarray:
        """He et al. (2015)."""
        return rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)

    lines = [
        "x = Transpose<perm=[0,3,1,2]>(image)",
        "c0 = Conv<pads=[1,1,1,1], strides=[2,2]>(x, first) r0 = Relu(c0)",
    ]
    constants = {"first": weights(8, 3, 3, 3), "last": weights(2, 256, 1, 1)}
    channels = 8
    for i, (outputs, stride) in enumerate(_BLOCKS):
        constants |= {f"d{i}": weights(channels, 1, 3, 3), f"p{i}": weights(outputs, channels, 1, 1)}
        window = f"group={channels}, pads=[1,1,1,1], strides=[{stride},{stride}]"
        lines.append(f"a{i} = Conv<{window}>(r{i}, d{i}) b{i} = Relu(a{i})")
        lines.append(f"c{i + 1} = Conv(b{i}, p{i}) r{i + 1} = Relu(c{i + 1})")
        channels = outputs
    lines.append(f"m = GlobalAveragePool(r{len(_BLOCKS)}) s = Conv(m, last) scores = Flatten(s)")
    body = "\n".join(lines)
    return onnx_models.model(f"(float[1,96,96,3] image) => (float scores) {{ {body} }}", constants)


def samples() -> dict[str, np.ndarray]:
    """Return images of noise to calibrate on."""
    return {"image": np.random.default_rng(0).standard_normal((8, 1, 96, 96, 3)).astype(np.float32)}

"""Two networks of MLPerf Tiny in PyTorch, as its reference code builds them in Keras.

Banbury et al., "MLPerf Tiny Benchmark" (2021). Its other two come trained; these, `training.py` trains.
"""

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

IMAGE = (96, 96, 3)
"""Height, width, channels: of the input of visual wake words, from 0 to 1."""
WINDOW = 640
"""Features of the autoencoder's input: five frames of 128 mel bands."""
BOTTLENECK = 8
SEPARABLE = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *((128, 1),) * 5, (256, 2), (256, 1))
"""Channels and strides of MobileNetV1's separable layers (Howard et al., 2017, table 1), a quarter wide."""


class ChannelsFirst(nn.Module):
    """Images as firmware has them, [N, height, width, channels], as PyTorch's [N, channels, ...]."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the images, transposed."""
        return x.permute(0, 3, 1, 2)


def visual_wake_words() -> nn.Sequential:
    """Return MobileNetV1-0.25 for images of 96x96: two scores that add up to 1; 7.5 MMAC."""
    layers: list[nn.Module] = [ChannelsFirst(), *_window(3, 8, 2)]
    channels = 8
    for outputs, stride in SEPARABLE:
        layers += _window(channels, channels, stride, groups=channels)
        layers += (nn.Conv2d(channels, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())
        channels = outputs
    return nn.Sequential(*layers, nn.AvgPool2d(3), nn.Flatten(), nn.Linear(channels, 2), nn.Softmax(dim=1))


def autoencoder() -> nn.Sequential:
    """Return the autoencoder of ten dense layers: WINDOW features in, WINDOW out; 0.26 MMAC."""
    layers: list[nn.Module] = []
    width = WINDOW
    for outputs in (*(128,) * 4, BOTTLENECK, *(128,) * 4):
        layers += (nn.Linear(width, outputs), nn.BatchNorm1d(outputs), nn.ReLU())
        width = outputs
    return nn.Sequential(*layers, nn.Linear(width, WINDOW))


def folded(network: nn.Sequential) -> nn.Sequential:
    """Return the network for inference, every batch normalization folded into the layer before it."""
    layers: list[nn.Module] = []
    for layer in network.eval():
        if isinstance(layer, nn.BatchNorm2d):
            layers[-1] = fuse_conv_bn_eval(layers[-1], layer)
        elif isinstance(layer, nn.BatchNorm1d):
            layers[-1] = fuse_linear_bn_eval(layers[-1], layer)
        else:
            layers.append(layer)
    return nn.Sequential(*layers)


def _window(inputs: int, outputs: int, stride: int, groups: int = 1) -> Iterator[nn.Module]:
    """Yield a 3x3 convolution as Keras pads it ("same"): with a stride of 2, below and on the right only."""
    if stride == 2:
        yield nn.ZeroPad2d((0, 1, 0, 1))
    yield nn.Conv2d(inputs, outputs, 3, stride, 0 if stride == 2 else 1, groups=groups, bias=False)
    yield from (nn.BatchNorm2d(outputs), nn.ReLU())

"""MobileNetV2 and ResNets in PyTorch, with random weights, to measure speed on.

Speed doesn't depend on the weights' values, but neither zeros nor activations that die or explode would be
honest: weights are drawn after He et al. (2015), and batch normalization takes its means and variances from
noise sent through the network, as training would from data.
"""

import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

OPSET = 18
SEED = 0
CLASSES = 1000
IMAGE = (3, 224, 224)
STATISTICS_BATCH = 4
"""Images of noise behind each batch normalization's statistics: the smallest layer has 4 x 7 x 7 pixels."""


class Residual(nn.Module):
    """body(x) + shortcut(x), then the activation."""

    def __init__(self, body: nn.Module, shortcut: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut, self.activation = body, shortcut, activation

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the body's shape."""
        result: Tensor = self.activation(self.body(x) + self.shortcut(x))
        return result


def convolution(
    inputs: int,
    outputs: int,
    size: int = 1,
    stride: int = 1,
    groups: int = 1,
    activation: nn.Module | None = None,
) -> nn.Sequential:
    """Return a convolution with half its size as padding, batch normalization, and the activation."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, *([activation] if activation else []))


def classifier(channels: int) -> Iterator[nn.Module]:
    """Yield the mean over the image and the scores of the classes."""
    yield from (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))


def basic_block(inputs: int, width: int, stride: int) -> tuple[nn.Module, int]:
    """ResNet-18's: two 3x3 convolutions. Return it and its channels."""
    body = nn.Sequential(
        convolution(inputs, width, 3, stride, activation=nn.ReLU()), convolution(width, width, 3)
    )
    return body, width


def bottleneck_block(inputs: int, width: int, stride: int) -> tuple[nn.Module, int]:
    """ResNet-50's, with the stride in the 3x3 convolution ("v1.5"). Return it and its channels."""
    body = nn.Sequential(
        convolution(inputs, width, activation=nn.ReLU()),
        convolution(width, width, 3, stride, activation=nn.ReLU()),
        convolution(width, 4 * width),
    )
    return body, 4 * width


def resnet(block: Callable[[int, int, int], tuple[nn.Module, int]], depths: tuple[int, ...]) -> nn.Module:
    """Return a residual network for ImageNet (He et al., 2016)."""
    layers: list[nn.Module] = [convolution(3, 64, 7, 2, activation=nn.ReLU()), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for stage, depth in enumerate(depths):
        for index in range(depth):
            stride = 2 if stage > 0 and index == 0 else 1
            body, outputs = block(channels, 64 << stage, stride)
            same = stride == 1 and outputs == channels
            shortcut = nn.Identity() if same else convolution(channels, outputs, 1, stride)
            layers.append(Residual(body, shortcut, nn.ReLU()))
            channels = outputs
    return nn.Sequential(*layers, *classifier(channels))


def resnet18() -> nn.Module:
    """Return ResNet-18: 1.8 GMAC."""
    return resnet(basic_block, (2, 2, 2, 2))


def resnet50() -> nn.Module:
    """Return ResNet-50: 4.1 GMAC."""
    return resnet(bottleneck_block, (3, 4, 6, 3))


def mobilenetv2() -> nn.Module:
    """Return MobileNetV2 (Sandler et al., 2018): 300 MMAC."""
    layers: list[nn.Module] = [convolution(3, 32, 3, 2, activation=nn.ReLU6())]
    channels = 32
    # Table 2 of the paper: expansion, channels, repetitions, stride of the first.
    for expansion, outputs, repetitions, first_stride in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for index in range(repetitions):
            stride, width = first_stride if index == 0 else 1, channels * expansion
            expand = [convolution(channels, width, activation=nn.ReLU6())] if expansion > 1 else []
            depthwise = convolution(width, width, 3, stride, width, nn.ReLU6())
            body = nn.Sequential(*expand, depthwise, convolution(width, outputs))
            same = stride == 1 and outputs == channels
            layers.append(Residual(body, nn.Identity(), nn.Identity()) if same else body)
            channels = outputs
    layers.append(convolution(channels, 1280, activation=nn.ReLU6()))
    return nn.Sequential(*layers, *classifier(1280))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "mobilenetv2": mobilenetv2,
    "resnet18": resnet18,
    "resnet50": resnet50,
}


def make(name: str) -> nn.Module:
    """Return one of NETWORKS for inference, its weights random and its statistics from noise."""
    torch.manual_seed(SEED)
    network = NETWORKS[name]()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.3)
            module.momentum = None  # a plain mean over batches, not a moving one
    with torch.no_grad():
        network.train()(torch.randn(STATISTICS_BATCH, *IMAGE))
    return network.eval()


def write(name: str, folder: Path) -> Path:
    """Write one of NETWORKS to `folder` as <name>.onnx, the same bytes each time, and return its path."""
    return export(make(name), (1, *IMAGE), folder / f"{name}.onnx", "image", "scores")


def export(network: nn.Module, shape: tuple[int, ...], path: Path, input: str, output: str) -> Path:
    """Write a network with one input of `shape` and one output to `path`, and return it."""
    logging.getLogger("torch.onnx").setLevel(
        logging.ERROR
    )  # torchvision is missing, it says, which isn't used
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        torch.onnx.export(
            network,
            (torch.randn(shape),),
            path,
            input_names=[input],
            output_names=[output],
            opset_version=OPSET,
            external_data=False,
            verbose=False,
            dynamo=True,
        )
    return path

"""Training of the two networks of MLPerf Tiny that nobody trained for us, and their files.

Deterministic: one thread, seeded, and algorithms that PyTorch promises to repeat. Another CPU or another
version of PyTorch rounds otherwise, and comes to other weights of the same worth.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from edgec.bench.lab import datasets, tiny_networks
from edgec.bench.lab.networks import export

Progress = Callable[[int, int, float], None]
"""Is told the steps done, their number, and the loss."""
Loss = Callable[[nn.Sequential, torch.Generator], Tensor]
"""Returns the loss on one batch, which is drawn by the generator."""

SEED = 0
ANIMALS_STEPS, ANIMALS_BATCH, ANIMALS_RATE = 3000, 64, 3e-3
ANIMALS_SMOOTHING = 0.05
IMAGENET_REPEATS = 4
"""ImageNet's are a fifth of the images: so as many of both are drawn."""
MACHINES_STEPS, MACHINES_BATCH, MACHINES_RATE = 2600, 256, 3e-3
CLIPPED = 5.0
"""Norm of the gradient."""


@dataclass(frozen=True)
class Task:
    """A network, and how it comes to its weights."""

    input: str
    shape: tuple[int, ...]
    output: str
    make: Callable[[], nn.Sequential]
    loss: Callable[[Path], Loss]
    """Returns the loss for the data in a folder."""
    steps: int
    rate: float
    """Highest learning rate of the schedule."""


def animals(root: Path) -> Loss:
    """Return the cross-entropy of images that are cut, turned, coloured and mixed at random."""
    pixels, labels = datasets.animals_to_train(root)
    weights = torch.ones(len(labels))
    weights[datasets.CIFAR10_TRAINING :] = IMAGENET_REPEATS
    images, truth = torch.from_numpy(pixels), torch.from_numpy(labels)

    def loss(network: nn.Sequential, generator: torch.Generator) -> Tensor:
        chosen = torch.multinomial(weights, ANIMALS_BATCH, replacement=True, generator=generator)
        batch, expected = _varied(images[chosen], generator), truth[chosen]
        share = torch.rand(1, generator=generator).square().item() / 2  # of another image: mostly little
        others = torch.randperm(ANIMALS_BATCH, generator=generator)
        scores = network[:-1](torch.lerp(batch, batch[others], share))  # without the softmax
        mine, other = (
            functional.cross_entropy(scores, classes, label_smoothing=ANIMALS_SMOOTHING)
            for classes in (expected, expected[others])
        )
        return torch.lerp(mine, other, share)

    return loss


def machines(root: Path) -> Loss:
    """Return the mean squared error of windows of whole cars' sounds."""
    del root  # nothing is read
    windows = torch.from_numpy(datasets.machines_to_train())

    def loss(network: nn.Sequential, generator: torch.Generator) -> Tensor:
        batch = windows[torch.randint(len(windows), (MACHINES_BATCH,), generator=generator)]
        return functional.mse_loss(network(batch), batch)

    return loss


TASKS = {
    "vww_mobilenetv1": Task(
        "image",
        (1, *tiny_networks.IMAGE),
        "scores",
        tiny_networks.visual_wake_words,
        animals,
        ANIMALS_STEPS,
        ANIMALS_RATE,
    ),
    "anomaly_autoencoder": Task(
        "windows",
        (1, tiny_networks.WINDOW),
        "reconstruction",
        tiny_networks.autoencoder,
        machines,
        MACHINES_STEPS,
        MACHINES_RATE,
    ),
}


def train(name: str, folder: Path, root: Path, progress: Progress) -> Path:
    """Train one of TASKS on the data in `root`, write `folder`/<name>.onnx, and return its path.

    Raises DataError where a file of the data isn't there.
    """
    task = TASKS[name]
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    loss_of, generator = task.loss(root), torch.Generator().manual_seed(SEED)
    torch.manual_seed(SEED)
    network = task.make().train()
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, task.rate, task.steps)
    for step in range(task.steps):
        optimizer.zero_grad()
        loss = loss_of(network, generator)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), CLIPPED)
        optimizer.step()
        schedule.step()
        progress(step + 1, task.steps, loss.item())
    path = export(tiny_networks.folded(network), task.shape, folder / f"{name}.onnx", task.input, task.output)
    path.write_bytes(half(onnx.load(path)).SerializeToString())
    return path


def half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with its matrices as float16, which is what it computes with from then on.

    initializer (float) --> initializer (float16) --> Cast (float)
    """
    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) > 1:
            name, values = tensor.name, numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(values, f"{name}_half"))
            casts.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    for noted in (*nodes, *graph.input, *graph.output, graph, model):  # what the exporter called things
        noted.ClearField("metadata_props")
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model


def _varied(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return a random part of each of the images, uint8 [N, height, width, 3], as floats from 0 to 1.

    Its sides are 0.55 to 1 of the image's, a little out of proportion, maybe mirrored, with other contrast,
    brightness and tint.
    """

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(len(images), *shape).uniform_(low, high, generator=generator)

    side, proportion = uniform(0.55, 1.0), uniform(0.92, 1.08)
    width, height = (side * proportion).clamp(max=1), (side / proportion).clamp(max=1)
    mirror = uniform(-1, 1).sign()
    place = torch.zeros(len(images), 2, 3)
    place[:, 0, 0], place[:, 1, 1] = width * mirror, height
    place[:, 0, 2], place[:, 1, 2] = (1 - width) * uniform(-1, 1), (1 - height) * uniform(-1, 1)
    channels_first = images.permute(0, 3, 1, 2).float() / 255
    grid = functional.affine_grid(place, list(channels_first.shape), align_corners=False)
    parts = functional.grid_sample(channels_first, grid, padding_mode="reflection", align_corners=False)
    contrast, brightness, tint = uniform(0.7, 1.3, 1), uniform(-0.1, 0.1, 1), uniform(-0.08, 0.08, 3)
    levels = 0.5 + brightness + tint
    coloured = ((parts - 0.5) * contrast[..., None, None] + levels[..., None, None]).clamp(0, 1)
    return coloured.permute(0, 2, 3, 1)

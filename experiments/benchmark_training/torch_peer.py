"""MobileNet v1 in PyTorch, one network after another."""

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import nn

from experiments.benchmark_training.cases import Job, Size
from experiments.benchmark_training.work import Work
from twostage_jax.models.head import HIDDEN_UNITS
from twostage_jax.models.mobilenet_v1 import BLOCKS, STEM_CHANNELS
from twostage_jax.models.norms import EPSILON
from twostage_jax.training.protocol import Protocol


def prepare(job: Job, images: UInt8[np.ndarray, "n h w 3"], labels: Int[np.ndarray, " n"]) -> Work:
    """Puts network and data on the device; a RuntimeError says that a GPU is missing."""
    protocol = Protocol()
    mixed = job.precision == "bfloat16"
    if mixed and not torch.cuda.is_available():
        raise RuntimeError("PyTorch finds no GPU")
    device = torch.device("cuda" if mixed else "cpu")
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(protocol.seed)
    network = make_network(job.size, int(labels.max()) + 1, protocol.bn_momentum)
    network = network.to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.RMSprop(
        network.parameters(), protocol.learning_rate, alpha=protocol.decay, eps=protocol.epsilon
    )
    score = nn.CrossEntropyLoss()
    table = torch.from_numpy(images).to(device)
    classes = torch.from_numpy(labels.astype(np.int64)).to(device)
    size = protocol.batch_size

    def loss_of(batch: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        # Rows of pixels are channels-last in memory already.
        pixels = batch.permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            return score(network(pixels), label)

    if job.variant == "compiled":
        loss_of = torch.compile(loss_of)

    def call(count: int) -> None:
        done = 0
        while done < count:
            order = torch.randperm(len(table), device=device)
            for rows in order[: len(order) // size * size].split(size)[: count - done]:
                optimizer.zero_grad(set_to_none=True)
                loss_of(table[rows], classes[rows]).backward()
                optimizer.step()
                done += 1
        if mixed:
            torch.cuda.synchronize()

    return Work(call, size, 10**6, lambda: torch.cuda.max_memory_allocated() if mixed else None)


def make_network(size: Size, classes: int, momentum: float) -> nn.Module:
    """The network with the paper's head, which returns a score per class."""
    norm = {"eps": EPSILON, "momentum": 1 - momentum}

    def convolution(channels: int, out: int, kernel: int, **options: int) -> list[nn.Module]:
        layer = nn.Conv2d(channels, out, kernel, bias=False, **options)
        return [layer, nn.BatchNorm2d(out, **norm), nn.ReLU6(inplace=True)]

    channels, side = int(STEM_CHANNELS * size.width), -(-size.pixels // 2)
    layers = convolution(3, channels, 3, stride=2, padding=1)
    for out, stride in BLOCKS:
        out = int(out * size.width)
        # Keras's network and ours drop the border of an odd map with stride 2: equal maps here.
        padding = 0 if stride == 2 and side % 2 else 1
        layers += convolution(
            channels, channels, 3, stride=stride, padding=padding, groups=channels
        )
        layers += convolution(channels, out, 1)
        channels, side = out, side // stride
    head = nn.Linear(channels, HIDDEN_UNITS), nn.ReLU(), nn.Linear(HIDDEN_UNITS, classes)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *head)

"""MobileNet v1 in PyTorch, one network after another: timm's where it is installed and has it."""

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import nn

from experiments.benchmark_training.cases import Job, Size
from experiments.benchmark_training.flops import feature_width
from experiments.benchmark_training.work import Work
from twostage_jax.models.head import HIDDEN_UNITS
from twostage_jax.models.layers import BATCH_NORM_EPSILON
from twostage_jax.models.mobilenet_v1 import BLOCKS, STEM_CHANNELS
from twostage_jax.training.protocol import Protocol

TIMM_NAME = "mobilenetv1_100"


def prepare(job: Job, images: UInt8[np.ndarray, "n h w 3"], labels: Int[np.ndarray, " n"]) -> Work:
    """Puts network and data on the device.

    Raises:
        RuntimeError: PyTorch has no accelerator, though one is expected.
    """
    protocol = Protocol()
    mixed = job.engine.precision == "bfloat16"
    if mixed and not torch.cuda.is_available():
        raise RuntimeError("PyTorch finds no GPU")
    device = torch.device("cuda" if mixed else "cpu")
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(protocol.seed)
    network = make_network(job.case.size, int(labels.max()) + 1, protocol.bn_momentum)
    network = network.to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.RMSprop(
        network.parameters(), protocol.learning_rate, alpha=protocol.decay, eps=protocol.epsilon
    )
    score = nn.CrossEntropyLoss()
    table = torch.from_numpy(images).to(device)
    classes = torch.from_numpy(labels.astype(np.int64)).to(device)

    def loss_of(batch: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        # Stored as rows of pixels, it is channels-last already.
        pixels = batch.permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            return score(network(pixels), label)

    if job.engine.choice == "compiled":
        loss_of = torch.compile(loss_of)

    def batches() -> torch.Tensor:
        order = torch.randperm(len(table), device=device)
        return order[: len(order) // protocol.batch_size * protocol.batch_size].split(
            protocol.batch_size
        )

    def call(count: int) -> None:
        done = 0
        while done < count:
            for rows in batches()[: count - done]:
                optimizer.zero_grad(set_to_none=True)
                loss_of(table[rows], classes[rows]).backward()
                optimizer.step()
                done += 1
        if mixed:
            torch.cuda.synchronize()

    if mixed:
        torch.cuda.reset_peak_memory_stats()
    peak: Callable[[], int] | None = torch.cuda.max_memory_allocated if mixed else None
    return Work(call, protocol.batch_size, most=10**6, peak=peak)


def make_network(size: Size, classes: int, momentum: float) -> nn.Module:
    """The network with the paper's head, which gives the scores of the classes."""
    norm = {"eps": BATCH_NORM_EPSILON, "momentum": 1 - momentum}
    if find_spec("timm") and size.width == 1:
        import timm

        body = timm.create_model(
            TIMM_NAME, num_classes=0, bn_eps=norm["eps"], bn_momentum=norm["momentum"]
        )
    else:
        body = _body(size, norm)
    head = nn.Sequential(
        nn.Linear(feature_width(size.width), HIDDEN_UNITS),
        nn.ReLU(),
        nn.Linear(HIDDEN_UNITS, classes),
    )
    return nn.Sequential(body, head)


def _body(size: Size, norm: dict[str, float]) -> nn.Module:
    channels = int(STEM_CHANNELS * size.width)
    side = -(-size.pixels // 2)
    layers = [*_convolution(3, channels, 2, 1, norm)]
    for out, stride in BLOCKS:
        out = int(out * size.width)
        # Of an odd size halved, Keras's network and ours leave out the border: the same maps here.
        padding = 0 if stride == 2 and side % 2 else 1
        layers += _convolution(channels, channels, stride, padding, norm, groups=channels)
        layers += [nn.Conv2d(channels, out, 1, bias=False), nn.BatchNorm2d(out, **norm)]
        layers += [nn.ReLU6(inplace=True)]
        channels, side = out, side // stride
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def _convolution(
    channels: int, out: int, stride: int, padding: int, norm: dict[str, float], groups: int = 1
) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, out, 3, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(out, **norm),
        nn.ReLU6(inplace=True),
    ]

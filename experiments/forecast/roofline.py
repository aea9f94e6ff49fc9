"""Bounds on the time of a step, from its kernels and the numbers of a device."""

from collections.abc import Sequence

from experiments.forecast.devices import Device
from experiments.forecast.kernels import Kernel


def step_seconds(kernels: Sequence[Kernel], device: Device) -> float:
    """Seconds that a step takes at least, as the compiled program stands.

    Kernels run one after another. Each takes what its traffic takes at full bandwidth or its
    operations at their peak, whichever is longer, and a launch. Copies beside them only add to the
    traffic. Where the compiler counts cycles, the step takes at least these.
    """
    running = [kernel for kernel in kernels if not kernel.beside]
    one_by_one = sum(kernel.times * kernel_seconds(kernel, device) for kernel in running)
    traffic = sum(kernel.times * kernel.bytes for kernel in kernels) / device.bandwidth
    counted = sum(kernel.times * kernel.cycles for kernel in kernels)
    return max(one_by_one, traffic, counted / device.clock if device.clock else 0)


def kernel_seconds(kernel: Kernel, device: Device) -> float:
    """Seconds that one run of a kernel takes at least, cycles aside."""
    # Products of several precisions share the units that multiply; other operations do not.
    products = sum(
        number / peak for name, number in kernel.products.items() if (peak := device.peak(name))
    )
    peak = device.peak("vector")
    vector = kernel.vector / peak if peak else 0
    return device.launch + max(kernel.bytes / device.bandwidth, products, vector)

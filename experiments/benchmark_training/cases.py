"""What is measured: the options, and all jobs that they ask for."""

import dataclasses
from importlib.util import find_spec
from typing import Literal, NamedTuple

from experiments.benchmarks import options as common
from twostage_jax.support.errors import InputError
from twostage_jax.training.protocol import PRECISIONS

OURS, TORCH, KERAS = "twostage_jax", "PyTorch", "Keras"

# Choices of `forms.Forms` that ablation changes, one at a time, from the fastest of the platform.
_EVERYWHERE = ("depthwise", "convolution"), ("stem", "convolution"), ("rematerialize", True)
_BY_PARTS = ("pointwise", "product"), ("norm", "parts")
_ABLATED = {
    "cpu": (("depthwise", "shifts_autodiff"), *_EVERYWHERE),
    "gpu": (("depthwise", "shifts_autodiff"), *_EVERYWHERE, *_BY_PARTS, ("kernel", True)),
    "tpu": (("depthwise", "shifts"), *_EVERYWHERE, *_BY_PARTS),
}


class Size(NamedTuple):
    """A network by the multiplier of its channels, and the side of its images."""

    width: float
    pixels: int

    def __str__(self) -> str:
        """As printed."""
        return f"width {self.width:g}, {self.pixels} px"


@dataclasses.dataclass(frozen=True)
class Options(common.Options):
    """Times training of many networks as one program, and one by one in PyTorch and Keras.

    Every library works in processes of its own, which stay; within a round they take turns.
    """

    tasks: tuple[Literal["training", "ablation"], ...] = ("training", "ablation")
    """training (ours and the peers), ablation (ours with one form or precision changed)."""
    members: tuple[int, ...] | None = None
    """Networks trained together; ablation uses the most. Default: 1 2 on a CPU, 1 10 20 on an
    accelerator."""
    precisions: tuple[Literal["float32", "tf32", "bfloat16"], ...] | None = None
    """Precisions of products and activations. Default: float32 on a CPU, all on an accelerator;
    ablation starts from the first."""
    sizes: tuple[tuple[float, int], ...] | None = None
    """Width of the network and pixels of the images; ablation uses the last. Default: 1 150 0.25 96
    on a CPU, 1 150 on an accelerator."""
    peers: bool = True
    """Measure PyTorch and Keras where they are installed."""
    seconds: float = 3
    """Length of a turn."""
    images_per_class: int = 125
    """digits: how many images to take per class."""

    def on(self, platform: str) -> "Options":
        """These options with the defaults of a platform."""
        on_cpu = platform == "cpu"
        defaults = {
            "members": (1, 2) if on_cpu else (1, 10, 20),
            "precisions": ("float32",) if on_cpu else PRECISIONS,
            "sizes": ((1.0, 150), (0.25, 96)) if on_cpu else ((1.0, 150),),
        }
        missing = {name: value for name, value in defaults.items() if getattr(self, name) is None}
        return dataclasses.replace(self, **missing)

    def require_valid(self) -> None:
        """Checks what the types of the options leave open."""
        super().require_valid()
        for width, pixels in self.sizes or ():
            if width < 1 / 32 or pixels < 32:
                raise InputError(f"--sizes {width:g} {pixels} found, 1/32 32 or more expected")


class Job(NamedTuple):
    """What one engine does in one case, a task (training, ablation) at a size.

    `members` networks are trained together. `variant` is a peer's: eager, compiled, or Keras's
    backend; `changed` are the forms of our layers that are not the fastest of the platform.
    """

    task: str
    size: Size
    library: str
    precision: str
    members: int = 1
    variant: str = ""
    changed: tuple[tuple[str, str | bool], ...] = ()

    @property
    def case(self) -> str:
        """As printed."""
        return f"{self.task}, {self.size}"

    @property
    def engine(self) -> str:
        """As printed: the library, its variant, and the forms that are changed."""
        changed = [f"{name}={form}" for name, form in self.changed]
        return ", ".join(filter(None, (self.library, self.variant, *changed)))

    def __str__(self) -> str:
        """As printed."""
        return f"{self.case}: {self.engine}, {self.precision}, {self.members} together"


def list_jobs(options: Options, platform: str) -> list[Job]:
    """Everything to measure, case by case; `options` have the defaults of the platform."""
    sizes, jobs = [Size(*pair) for pair in options.sizes], []
    groups = sorted(set(options.members), reverse=True)  # large ones are what the program is for
    for size in sizes if "training" in options.tasks else ():
        jobs += list_peers(size, platform) if options.peers else []
        jobs += [Job("training", size, OURS, p, m) for m in groups for p in options.precisions]
    if "ablation" in options.tasks:
        product = Job("ablation", sizes[-1], OURS, options.precisions[0], groups[0])
        jobs += list_ablated(product, platform)
    return jobs


def list_ablated(product: Job, platform: str) -> list[Job]:
    """Our program, and the same with one form of its layers or the precision changed.

    Precisions are compared on accelerators: a CPU has no faster products.
    """
    others = [p for p in PRECISIONS if p != product.precision and platform != "cpu"]
    changed = [product._replace(changed=(each,)) for each in _ABLATED[platform]]
    return [product, *changed, *(product._replace(precision=each) for each in others)]


def list_peers(size: Size, platform: str) -> list[Job]:
    """The jobs of the other libraries that are installed."""
    precision = "float32" if platform == "cpu" else "bfloat16"
    peer = Job("training", size, TORCH, precision)
    torch = [peer._replace(variant=name) for name in ("compiled", "eager")]
    keras = [peer._replace(library=KERAS, variant="TensorFlow")]
    with_keras = find_spec("keras") and find_spec("tensorflow")
    return torch * bool(find_spec("torch")) + keras * bool(with_keras)


def missing_peers(options: Options) -> list[str]:
    """Sentences that say which peers were not measured, and why."""
    if not options.peers:
        return ["PyTorch and Keras were not measured: --no-peers."]
    return [
        f"{library} was not measured: the package {package} is not installed."
        for library, package in ((TORCH, "torch"), (KERAS, "keras"), (KERAS, "tensorflow"))
        if not find_spec(package)
    ]

"""What is measured: tasks at sizes of the network, and the engines of each."""

from importlib.util import find_spec
from typing import NamedTuple

from experiments.benchmark_training.ablation import CHOICES, PRECISION
from experiments.benchmark_training.options import Options
from experiments.benchmark_training.paper import heads_of_network
from twostage_jax.training.steps import PRECISIONS

OURS = "twostage_jax"
TORCH = "PyTorch"
KERAS = "Keras"


class Size(NamedTuple):
    """A network and its images.

    Attributes:
        width: multiplier of the channels.
        pixels: side of the images.
    """

    width: float
    pixels: int

    @property
    def title(self) -> str:
        """As printed."""
        return f"width {self.width:g}, {self.pixels} px"


class Case(NamedTuple):
    """Lines that are compared with each other.

    Attributes:
        task: one of `options.TASKS`.
        size: of network and images.
    """

    task: str
    size: Size

    @property
    def title(self) -> str:
        """As printed."""
        return f"{self.task}, {self.size.title}"

    @property
    def unit(self) -> str:
        """What is counted a second."""
        return "heads" if self.task == "heads" else "images"


class Engine(NamedTuple):
    """What does the work.

    Attributes:
        library: `OURS`, `TORCH` or `KERAS`.
        precision: of products and activations.
        members: networks, or heads, that are trained together.
        choice: ours: one of `CHOICES` that is undone, or empty; PyTorch: `eager` or `compiled`;
            Keras: its backend.
    """

    library: str
    precision: str
    members: int = 1
    choice: str = ""

    @property
    def title(self) -> str:
        """As printed."""
        if self.library == OURS:
            return CHOICES[self.choice].text if self.choice else OURS
        return f"{self.library}, {self.choice}"


class Job(NamedTuple):
    """An engine's part in a case."""

    case: Case
    engine: Engine


def sizes_of(options: Options) -> list[Size]:
    """The sizes that the options name, each once."""
    pairs = (text.split(":") for text in dict.fromkeys(options.sizes))
    return [Size(float(width), int(pixels)) for width, pixels in pairs]


def jobs_of(options: Options, platform: str) -> list[Job]:
    """Everything to measure, in the order of its turns.

    Args:
        options: settled for the platform.
        platform: that JAX runs on.
    """
    sizes, jobs = sizes_of(options), []
    for task in options.tasks:
        # Undoing a choice is measured where it takes least time, what follows stage 1 at the first.
        chosen = {"training": sizes, "ablation": sizes[-1:]}.get(task, sizes[:1])
        for size in chosen:
            jobs += [Job(Case(task, size), e) for e in _engines_of(task, options, platform)]
    return jobs


def _engines_of(task: str, options: Options, platform: str) -> list[Engine]:
    match task:
        case "training":
            # Large groups first: they are what the program is for, should time run out.
            groups = sorted(set(options.members), reverse=True)
            ours = [Engine(OURS, p, members) for members in groups for p in options.precisions]
            return [*peers_of(options, platform), *ours]
        case "ablation":
            return _ablated(options, platform)
        case "extraction":
            return [Engine(OURS, p, options.group) for p in options.precisions]
        case _:
            heads = options.group * heads_of_network()
            return [Engine(OURS, p, heads) for p in options.precisions]


def _ablated(options: Options, platform: str) -> list[Engine]:
    product = Engine(OURS, options.precisions[0], options.group)
    made = [name for name, choice in CHOICES.items() if choice.is_made_on(platform)]
    # A CPU has no tensor cores: tf32 is float32 there.
    known = [p for p in PRECISIONS if p != "tf32" or platform != "cpu"]
    others = [p for p in known if p != product.precision]
    return [
        product,
        *(product._replace(choice=name) for name in made if name != PRECISION),
        *(product._replace(choice=PRECISION, precision=p) for p in others),
    ]


def peers_of(options: Options, platform: str) -> list[Engine]:
    """The other libraries' engines that are installed, unless the options leave them out."""
    if not options.peers:
        return []
    precision = "float32" if platform == "cpu" else "bfloat16"
    engines = []
    if find_spec("torch"):
        engines += [Engine(TORCH, precision, choice=name) for name in ("compiled", "eager")]
    if find_spec("keras"):
        backends = ["TensorFlow"] if find_spec("tensorflow") else []
        # A TensorFlow for the CPU alone is common beside a JAX that has an accelerator.
        if not backends or platform != "cpu":
            backends.append("JAX")
        engines += [Engine(KERAS, precision, choice=name) for name in backends]
    return engines


def missing_peers(options: Options) -> list[str]:
    """In sentences, which peers do not run and why."""
    if not options.peers:
        return ["PyTorch and Keras were not run: --no-peers."]
    packages = {TORCH: "torch", KERAS: "keras"}
    return [
        f"{library} was not run: the package {package} is not installed."
        for library, package in packages.items()
        if not find_spec(package)
    ]

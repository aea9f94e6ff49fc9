"""What `experiments.reproduce --dry-run --target` says of a study on a device that is not here."""

from experiments.benchmarks.document import digits
from experiments.benchmarks.turns import WorkerError
from experiments.forecast.compiling import Compilers, Job
from experiments.forecast.devices import devices
from experiments.forecast.programs import Setting
from experiments.forecast.targets import missing
from twostage_jax.data.partition import FOLDS
from twostage_jax.study.jobs import image_passes
from twostage_jax.study.study import Study
from twostage_jax.support.errors import InputError


def require_compiler(target: str) -> None:
    """Checks that programs can be compiled for a target.

    Raises:
        InputError: they cannot; the message says what to install.
    """
    if reason := missing(devices()[target].kind):
        raise InputError(f"--target {target}: {reason}")


def stage1_line(study: Study, target: str, members: int | None) -> str:
    """Compiles stage 1 of a study for a target, and says what it needs there, in one line.

    Args:
        study: whose program to compile.
        target: one of `devices` whose compiler is there.
        members: networks trained at a time; None for the paper's ten folds.

    Raises:
        InputError: the program does not compile.
    """
    device, members = devices()[target], members or FOLDS
    counts = tuple(map(int, study.image_set.class_counts))
    setting = Setting(counts, study.image_set.images.shape[1], study.protocol)
    job = Job(target, study.protocol.precision, "stage1", str(members))
    try:
        with Compilers(setting, largest=0) as compilers:
            compilers.lower(job)
            found = compilers.compile(job)
    except WorkerError as error:
        raise InputError(
            f"--target {target}: stage 1 does not compile for {members} networks at a time "
            f"({error}); lower --members"
        ) from error
    rate = found.samples / found.seconds
    passes = image_passes(study.groups(members), study.protocol.epochs)
    fits = "" if found.total <= device.memory else f" of the {device.memory / 2**30:.3g} there"
    return (
        f"{target} ({device.name}), {members} networks at a time: at most {digits(rate)} images/s "
        f"in stage 1 and at least {digits(passes / rate / 3600)} hours; device memory: "
        f"{found.total / 2**30:.2f} GiB{fits} (bounds of the compiled program, not a forecast of "
        "time)"
    )

"""A saved model, loaded onto a device for a command."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from twostage_jax.prediction.stream import Model, file_size
from twostage_jax.support.files import user_cache, user_path

Device = Literal["auto", "cpu", "gpu", "tpu"]
Prior = Literal["balanced"]


def load_model(path: Path, device: Device, prior: Prior | None) -> Model:
    """Starts JAX on the device and loads a model of images.

    Args:
        path: the model's folder.
        device: where to predict.
        prior: "balanced" corrects the probabilities to classes that are equally frequent.

    Raises:
        InputError: the device is not there, or the folder holds no model of images.
    """
    # They take seconds, in which a mistake in a command line has long been told.
    from twostage_jax.classifier import TwoStageClassifier
    from twostage_jax.commands.device import fix_numerics, keep_programs, use_accelerator

    path = user_path(path, "MODEL")
    fix_numerics()
    use_accelerator(device, option="--device")
    keep_programs(user_cache() / "compiled")
    model = TwoStageClassifier.load(path)
    if prior is not None:
        model.set_params(prior=prior)
    file_size(model)
    return model


@contextmanager
def out_of_memory() -> Iterator[None]:
    """Turns the error of a device with too little memory into an InputError with advice."""
    from twostage_jax.commands.device import out_of_memory_as_input_error  # it imports JAX

    with out_of_memory_as_input_error("predict with --device cpu"):
        yield

"""The device that a command works on, and what JAX is told about it."""

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jax

from twostage_jax.support.errors import InputError, is_out_of_memory
from twostage_jax.training.protocol import Protocol

ACCELERATORS = ("auto", "cpu", "gpu", "tpu")

# What the environment may set in JAX, and networks are trained without. A study's settings say
# nothing of it; `--precision` is the choice that there is.
_NUMERICS = {
    "jax_enable_x64": False,
    "jax_numpy_dtype_promotion": "standard",
    "jax_numpy_rank_promotion": "allow",
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_disable_jit": False,
    "jax_debug_nans": False,
    "jax_debug_infs": False,
}


def fix_numerics() -> None:
    """Makes JAX compute as it does by default, whatever the environment sets."""
    for name, value in _NUMERICS.items():
        jax.config.update(name, value)


@contextmanager
def out_of_memory_as_input_error(advice: str) -> Iterator[None]:
    """Turns the error of a device without enough memory into an InputError that ends in advice."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(f"the device has too little memory: {advice}") from error


def use_accelerator(accelerator: str, option: str = "--accelerator") -> None:
    """Makes JAX use the accelerator.

    Args:
        accelerator: one of `ACCELERATORS`.
        option: what the command calls it.

    Raises:
        InputError: JAX does not find it.
    """
    if accelerator == "cpu":
        jax.config.update("jax_platforms", "cpu")
    try:
        found = jax.local_devices()
    except Exception as error:  # a platform that is not there: an AssertionError, or another
        reason = str(error).splitlines()[0] if str(error) else "it does not say why"
        named = getattr(jax.config, "jax_platforms", None) or "none"
        raise InputError(
            f"JAX cannot start ({reason}); JAX_PLATFORMS names {named}: unset it or name a "
            f"platform of this machine there, or choose {option} cpu"
        ) from error
    if accelerator not in ("auto", found[0].platform):
        names = ", ".join(sorted({f"{d.platform} ({d.device_kind})" for d in found}))
        extra = "jax[cuda12]" if accelerator == "gpu" else "jax[tpu]"
        raise InputError(
            f"{option} {accelerator} requested, but JAX found only {names}; install {extra} "
            f"on a machine that has one, or choose {option} {found[0].platform}"
        )


def keep_programs(folder: Path) -> None:
    """Keeps compiled programs for the next start, unless JAX was told where to keep them.

    There is one folder per machine, because a CPU's programs suit its own model only.
    """
    if getattr(jax.config, "jax_compilation_cache_dir", None) is None:
        jax.config.update("jax_compilation_cache_dir", str(folder.resolve() / platform.node()))


# At least as many bytes as a training step takes per pixel of its batch, at width 1. XLA plans
# about 2,000 for MobileNet on 32 pixels.
_BYTES_PER_PIXEL = 600


def require_memory(protocol: Protocol, side: int, call: Callable[[str], str]) -> None:
    """Checks that a batch of one network can fit into the device, before anything is read.

    It is a lower bound: what passes may still be too much.

    Args:
        protocol: how to train.
        side: of the images, in pixels.
        call: what the user calls a setting of this name.

    Raises:
        InputError: it cannot.
    """
    stats = jax.local_devices()[0].memory_stats() or {}
    there = stats.get("bytes_limit") or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    needed = protocol.batch_size * side**2 * protocol.width * _BYTES_PER_PIXEL
    if needed > there:
        raise InputError(
            f"{call('batch_size')} {protocol.batch_size}, {call('image_size')} {side} and "
            f"{call('width')} {protocol.width:g} need at least {needed / 1e9:,.0f} GB, the device "
            f"has {there / 1e9:,.0f} GB; lower one of them"
        )


def require_batch(protocol: Protocol, images: int, call: Callable[[str], str]) -> None:
    """Checks that a batch is not padding for the most part.

    Raises:
        InputError: it has far more places than there are images.
    """
    # The default is for small sets, too.
    if protocol.batch_size > (most := max(256, images)):
        raise InputError(
            f"{call('batch_size')} {protocol.batch_size} found, at most {most} expected for "
            f"{images} images; lower it"
        )

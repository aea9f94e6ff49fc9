"""Keras's MobileNet and `fit`, one network after another, on TensorFlow or on JAX."""

import os
from collections.abc import Callable

import numpy as np
from jaxtyping import Int, UInt8

from experiments.benchmark_training import paper
from experiments.benchmark_training.cases import Job
from experiments.benchmark_training.work import Work
from twostage_jax.models.head import HIDDEN_UNITS
from twostage_jax.training.protocol import Protocol


def prepare(job: Job, images: UInt8[np.ndarray, "n h w 3"], labels: Int[np.ndarray, " n"]) -> Work:
    """Builds the model; Keras takes one backend a process.

    Raises:
        RuntimeError: the backend has no accelerator, though one is expected.
    """
    backend = job.engine.choice.lower()
    os.environ["KERAS_BACKEND"] = backend
    mixed = job.engine.precision == "bfloat16"
    peak = _tensorflow_peak(mixed) if backend == "tensorflow" else _jax_peak(mixed)
    import keras

    protocol = Protocol()
    keras.utils.set_random_seed(protocol.seed)
    keras.mixed_precision.set_global_policy("mixed_bfloat16" if mixed else "float32")
    size = job.case.size
    shape = (size.pixels, size.pixels, 3)
    body = keras.applications.MobileNet(
        input_shape=shape, alpha=size.width, include_top=False, weights=None, pooling="avg"
    )
    model = keras.Sequential(
        [
            keras.Input(shape, dtype="uint8"),
            keras.layers.Rescaling(1 / 127.5, -1),
            body,
            keras.layers.Dense(HIDDEN_UNITS, activation="relu"),
            keras.layers.Dense(int(labels.max()) + 1, dtype="float32"),
        ]
    )
    model.compile(
        keras.optimizers.RMSprop(
            protocol.learning_rate, rho=protocol.decay, epsilon=protocol.epsilon
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    # As many as the paper's, so that epochs are as long as those of a study.
    rows = np.arange(paper.IMAGES // protocol.batch_size * protocol.batch_size) % len(images)
    images, labels = images[rows], labels[rows]
    epoch = len(rows) // protocol.batch_size

    def call(count: int) -> None:
        some = slice(min(count, epoch) * protocol.batch_size)
        model.fit(
            images[some],
            labels[some],
            batch_size=protocol.batch_size,
            epochs=max(1, count // epoch),
            verbose=0,
        )

    return Work(
        call,
        protocol.batch_size,
        most=10**6,
        epoch=epoch,
        peak=peak,
        keeps=backend == "tensorflow",
    )


def _tensorflow_peak(accelerated: bool) -> Callable[[], int] | None:
    import tensorflow as tf

    devices = tf.config.list_physical_devices("GPU")
    if not accelerated:
        return None
    if not devices:
        raise RuntimeError("TensorFlow finds no GPU")
    tf.config.experimental.reset_memory_stats("GPU:0")
    return lambda: tf.config.experimental.get_memory_info("GPU:0")["peak"]


def _jax_peak(accelerated: bool) -> Callable[[], int] | None:
    import jax

    if not accelerated:
        return None
    if jax.default_backend() == "cpu":
        raise RuntimeError("JAX finds no accelerator")
    return lambda: jax.local_devices()[0].memory_stats()["peak_bytes_in_use"]

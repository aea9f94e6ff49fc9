"""Keras's MobileNet and `fit` on TensorFlow, one network after another."""

import os

import numpy as np
from jaxtyping import Int, UInt8

from experiments.benchmark_training.cases import Job
from experiments.benchmark_training.work import Work
from twostage_jax.models.head import HIDDEN_UNITS
from twostage_jax.training.protocol import Protocol


def prepare(job: Job, images: UInt8[np.ndarray, "n h w 3"], labels: Int[np.ndarray, " n"]) -> Work:
    """Builds the model; raises a RuntimeError if a GPU is expected and TensorFlow has none."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras
    import tensorflow as tf

    mixed = job.precision == "bfloat16"
    if mixed and not tf.config.list_physical_devices("GPU"):
        raise RuntimeError("TensorFlow finds no GPU")

    protocol, size = Protocol(), job.size
    keras.utils.set_random_seed(protocol.seed)
    keras.mixed_precision.set_global_policy("mixed_bfloat16" if mixed else "float32")
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
    decay = {"rho": protocol.decay, "epsilon": protocol.epsilon}
    optimizer = keras.optimizers.RMSprop(protocol.learning_rate, **decay)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    # At most an epoch of the paper's 5,000 images per call of `fit`.
    batches = 5000 // protocol.batch_size
    rows = np.arange(batches * protocol.batch_size) % len(images)
    images, labels = images[rows], labels[rows]

    def call(count: int) -> None:
        some = slice(count * protocol.batch_size)
        model.fit(images[some], labels[some], batch_size=protocol.batch_size, verbose=0)

    def device_memory() -> int | None:
        return tf.config.experimental.get_memory_info("GPU:0")["peak"] if mixed else None

    return Work(call, protocol.batch_size, batches, device_memory, frees=False)

"""Predictions of a fitted model, in calls of one size: a row does not depend on its company."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float32, Float64, UInt8

from twostage_jax.classifier.fitting import Fitted
from twostage_jax.models.weights import Weights, set_weights
from twostage_jax.study.corrections import CORRECTIONS
from twostage_jax.support.errors import InputError
from twostage_jax.training.objective import PLAIN, Call, Objective
from twostage_jax.training.programs import Programs, programs
from twostage_jax.training.steps import TrainState

# The most rows per call, and about the most bytes of images, which are held twice.
_ROWS, _BYTES = 512, 2**25


class Predictor:
    """The compiled programs of a fitted model, with its arrays on the device."""

    def __init__(self, fitted: Fitted):
        """Puts the arrays on the device; nothing is compiled yet."""
        self._fitted = fitted
        own = None if fitted.image_shape else fitted.feature_size
        self._programs: Programs = programs(fitted.protocol, fitted.classes, own)
        scale = fitted.cosine_scale
        objective = PLAIN if scale is None else Objective(Call.of("ldam", scale=scale))
        self._predict = self._programs.trainers(objective).predict
        key = jax.vmap(jax.random.key)(jnp.zeros(1, jnp.uint32))
        if own is None:
            state = jax.eval_shape(self._programs.init_network, key)
            params, stats = (_with(arrays, fitted.arrays) for arrays in state[:2])
            self._state = TrainState(params, stats, ())
            self._head = params["head"]
        else:
            names = {name.removeprefix("head."): a for name, a in fitted.arrays.items()}
            self._head = _with(jax.eval_shape(self._programs.init_head, key), names)
        size = fitted.protocol.batch_size
        rows = min(_ROWS, _BYTES // int(np.prod(fitted.image_shape or (1,))))
        self._batches = max(1, rows // size)
        self._rows = self._batches * size

    def features(self, images: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n f"]:
        """Features of images of the model's size."""
        table = np.empty((len(images), self._fitted.feature_size), np.float32)
        size = self._fitted.protocol.batch_size
        rows = np.arange(self._rows, dtype=np.int32).reshape(1, self._batches, size)
        for start in range(0, len(images), self._rows):
            chunk = images[start : start + self._rows]
            steps = -(-len(chunk) // size)
            found = self._programs.extract(self._state, self._padded(chunk), rows, steps)
            table[start : start + len(chunk)] = np.asarray(found)[0, : len(chunk)]
        return table

    def probabilities(
        self, features: Float32[np.ndarray, "n f"]
    ) -> Float32[np.ndarray, "n classes"]:
        """Class probabilities from features, as the model was trained and corrected."""
        fitted = self._fitted
        table = np.empty((len(features), fitted.classes), np.float32)
        for start in range(0, len(features), self._rows):
            chunk = features[start : start + self._rows]
            found = self._predict(self._head, self._padded(chunk)[None])
            table[start : start + len(chunk)] = np.asarray(found)[0, : len(chunk)]
        if fitted.correction is not None:
            table = CORRECTIONS[fitted.correction](table, fitted.learned)
        return table

    def _padded(self, chunk: np.ndarray) -> np.ndarray:
        if len(chunk) == self._rows:
            return np.ascontiguousarray(chunk)
        padded = np.zeros((self._rows, *chunk.shape[1:]), chunk.dtype)
        padded[: len(chunk)] = chunk
        return padded


def _with(shapes: nnx.State, arrays: Mapping[str, np.ndarray]) -> nnx.State:
    """A state of one member, of these arrays by name."""
    return set_weights(shapes, Weights(dict(arrays), ""))


def find_prior(prior, classes: int) -> Float64[np.ndarray, " classes"] | None:
    """The class frequencies that a `prior` asks for; None for those of training.

    Raises:
        InputError: it is neither None, "balanced" nor one number from 0 per class, in the order
            of `classes_`, that add up to 1.
    """
    if prior is None:
        return None
    if isinstance(prior, str):
        if prior != "balanced":
            raise InputError(
                f"prior '{prior}' found; expected None, 'balanced' or one frequency per class"
            )
        return np.full(classes, 1 / classes)
    try:
        wanted = np.asarray(prior, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"prior {prior!r} found; expected one frequency per class") from None
    if wanted.shape != (classes,):
        raise InputError(
            f"prior of shape {wanted.shape} found; expected one frequency for each of {classes} "
            "classes, in the order of classes_"
        )
    if not (wanted >= 0).all() or abs(wanted.sum() - 1) > 1e-6:
        raise InputError(
            f"prior {wanted.tolist()} found, which adds up to {wanted.sum():g}; expected "
            "frequencies from 0 that add up to 1: divide by their sum"
        )
    return wanted

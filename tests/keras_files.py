"""Weights files in Keras 2's HDF5 layout, written without Keras."""

from pathlib import Path

import h5py
import numpy as np
from flax import nnx

from twostage_jax.models.weights import KerasWeights


def write_keras(path: Path, tensors: dict[str, np.ndarray], suffix: str = ":0") -> Path:
    """Writes Keras 2's HDF5 layout."""
    layers = {}
    for name, tensor in tensors.items():
        layers.setdefault(name.split("/")[0], {})[f"{name}{suffix}"] = tensor
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"input_1", *(layer.encode() for layer in layers)]
        file.create_group("input_1").attrs["weight_names"] = np.array([], "S1")
        for layer, tensors_of_layer in layers.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in tensors_of_layer]
            for name, tensor in tensors_of_layer.items():
                group[name] = tensor
    return path


def random_tensors(files: KerasWeights, width: float) -> dict[str, np.ndarray]:
    """Random tensors under the names and in the shapes of one of Keras's files."""
    rng = np.random.default_rng(0)
    state = nnx.to_flat_state(nnx.state(nnx.eval_shape(lambda: files.build(width))))
    shapes = dict(
        files.in_keras(".".join(map(str, path)), leaf.shape)
        for path, leaf in state
        if path[0] != "head"
    )
    return {name: rng.uniform(0.5, 1.5, shape) for name, shape in shapes.items()}

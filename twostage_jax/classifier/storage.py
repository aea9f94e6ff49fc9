"""A saved model: a folder with `model.safetensors` and `model.json`, and no pickle.

`model.json` holds the format's number, the parameters, the classes, the shape of the images, how
they are prepared, versions, a fingerprint of the training data and a checksum of the arrays.
"""

import dataclasses
import json
import os
import platform
import shutil
import uuid
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from twostage_jax import __version__
from twostage_jax.classifier.fitting import Fitted
from twostage_jax.resampling import samplers
from twostage_jax.resampling.samplers.base import PlanSampler
from twostage_jax.support.errors import InputError
from twostage_jax.support.files import checksum, user_path, write_atomically
from twostage_jax.support.text import list_names
from twostage_jax.training.bounds import require_valid
from twostage_jax.training.protocol import Protocol, complete_settings

FORMAT = 2
"""Of `model.json`; a newer one is refused. Format 1 had the samples of each class in place of the
class frequencies that were learned, and no cosine classifiers."""

_ARRAYS, _DESCRIPTION = "model.safetensors", "model.json"
_PREPARATION = (
    "RGB; the largest centered square, resized with Pillow's antialiased Lanczos filter; "
    "value / 127.5 - 1"
)


def write_model(path: str | os.PathLike[str], model: Any, *, force: bool) -> None:
    """Writes a fitted `TwoStageClassifier`, see `TwoStageClassifier.save`."""
    target = user_path(Path(path), "model folder")
    require_free(target, force)
    _require_writable(model.classes_)
    fitted: Fitted = model._fitted
    arrays = {name: np.ascontiguousarray(array) for name, array in fitted.arrays.items()}
    arrays |= {f"curves.{stage}": curve for stage, curve in fitted.curves.items()}
    description = {
        "format": FORMAT,
        "kind": "twostage_jax.TwoStageClassifier",
        "parameters": {name: _to_json(own) for name, own in model.get_params(deep=False).items()},
        "protocol": fitted.protocol.to_settings(),
        "classes": model.classes_.tolist(),
        "classes_dtype": model.classes_.dtype.kind,
        "class_counts": model.class_counts_.tolist(),
        "prior": None if fitted.learned is None else fitted.learned.tolist(),
        "cosine_scale": fitted.cosine_scale,
        "correction": fitted.correction,
        "image_shape": fitted.image_shape and list(fitted.image_shape),
        "preparation": _PREPARATION if fitted.image_shape else "none",
        "feature_size": fitted.feature_size,
        "n_features_in": model.n_features_in_,
        "feature_names_in": getattr(model, "feature_names_in_", np.array([])).tolist(),
        "fingerprint": model._fingerprint,
        "versions": {
            "twostage_jax": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("jax", "flax", "numpy", "scikit-learn")},
        },
    }
    description["checksum"] = checksum(arrays, _text(description))
    # A folder cannot be replaced by another in one step, but it can be made whole beside it.
    whole = _beside(target, "tmp")
    try:
        write_atomically(whole / _ARRAYS, safetensors.numpy.save(arrays))
        write_atomically(whole / _DESCRIPTION, (json.dumps(description, indent=2) + "\n").encode())
        if target.exists():
            before = _beside(target, "old")
            target.rename(before)
            whole.rename(target)
            shutil.rmtree(before)
        else:
            whole.rename(target)
    finally:
        shutil.rmtree(whole, ignore_errors=True)


def _require_writable(classes: np.ndarray) -> None:
    values = classes.tolist()
    plain = all(isinstance(own, str | int | float) for own in values)
    if classes.dtype.kind not in _CLASS_DTYPES or not plain:
        raise InputError(
            f"classes of type {type(values[0]).__name__} found, which a saved model cannot hold; "
            "expected texts or numbers: fit with y.astype(str)"
        )


def _beside(target: Path, suffix: str) -> Path:
    """A hidden path of its own beside the model's."""
    return target.with_name(f".{target.name}.{uuid.uuid4().hex}.{suffix}")


def require_free(target: Path, force: bool) -> None:
    """Checks that a model may be written there.

    Raises:
        InputError: there is something at the path, and it is not to be replaced or is no model.
        OSError: no folder can be made there.
    """
    if not os.path.lexists(target):
        probe = _beside(target, "tmp")
        probe.mkdir(parents=True)
        probe.rmdir()
        return
    if target.is_dir() and not target.is_symlink():
        names = set(os.listdir(target))
        if not names or (force and names <= {_ARRAYS, _DESCRIPTION}):
            return
        if not force and _DESCRIPTION in names:
            raise InputError(
                f"{target} holds a model already; name another folder, or replace it with force "
                "(--force)"
            )
        if _DESCRIPTION in names:
            others = list_names(sorted(names - {_ARRAYS, _DESCRIPTION}))
            raise InputError(
                f"{target} holds a model and other files ({others}), which would be lost; move "
                "them away, or name another folder"
            )
    raise InputError(
        f"{target} is there and is no model; expected a path that is free: name another one"
    )


def read_model(path: str | os.PathLike[str], kind: type) -> Any:
    """Reads a model of the class `kind`, see `TwoStageClassifier.load`."""
    folder = user_path(Path(path), "model folder")
    description = _read_description(folder)
    try:
        with open(folder / _ARRAYS, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        raise InputError(
            f"{folder} has no {_ARRAYS}; expected a whole model: copy it again"
        ) from None
    try:
        arrays = safetensors.numpy.load(content)
        stated = description.pop("checksum", None)
        if stated != checksum(arrays, _text(description)):
            raise ValueError("its checksum is another one: a file was altered")
        return _assemble(description, arrays, kind, folder)
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise InputError(
            f"{folder} is not a whole model ({reason}); expected one that this version wrote: copy "
            "it again, or fit it again"
        ) from error


def _read_description(folder: Path) -> dict:
    path = folder / _DESCRIPTION
    try:
        description = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"no model in {folder}; expected a folder with {_DESCRIPTION} and {_ARRAYS}, as "
            "TwoStageClassifier.save and the command fit write it"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} cannot be read ({str(error)[:100]}); expected a model's description: copy the "
            "folder again"
        ) from None
    number = description.get("format") if isinstance(description, dict) else None
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise InputError(f"{path} does not describe a model; expected one that `save` wrote")
    if number > FORMAT:
        raise InputError(
            f"{path} has the format {number}, this version reads 1 to {FORMAT}; use the version "
            "that wrote it"
        )
    return description


def _assemble(description: dict, arrays: dict[str, np.ndarray], kind: type, folder: Path) -> Any:
    settings = complete_settings(description["protocol"])
    names = [field.name for field in dataclasses.fields(Protocol)]
    protocol = Protocol(**{name: settings[name] for name in names})
    require_valid(protocol)
    known = kind().get_params(deep=False)
    stated = description["parameters"]
    model = kind(**{name: _from_json(stated[name]) for name in known if name in stated})
    curves = {name: arrays.pop(name) for name in list(arrays) if name.startswith("curves.")}
    shape = description["image_shape"]
    model._fitted = Fitted(
        protocol=protocol,
        arrays=arrays,
        feature_size=description["feature_size"],
        image_shape=shape and tuple(shape),
        classes=len(description["classes"]),
        learned=_learned(description),
        cosine_scale=description.get("cosine_scale"),
        correction=description["correction"],
        curves={name.removeprefix("curves."): curve for name, curve in curves.items()},
    )
    model.classes_ = np.array(
        description["classes"], dtype=_CLASS_DTYPES[description["classes_dtype"]]
    )
    model.class_counts_ = np.array(description["class_counts"])
    model.image_shape_ = model._fitted.image_shape
    model.n_features_in_ = description["n_features_in"]
    if names := description["feature_names_in"]:
        model.feature_names_in_ = np.array(names, object)
    model.history_ = model._fitted.history
    model._fingerprint = description["fingerprint"]
    model._loaded = str(folder)
    return model


def _learned(description: dict) -> np.ndarray | None:
    if description["format"] == 1:
        seen = np.maximum(np.array(description["trained_counts"], np.float64), 1)
        return seen / seen.sum()
    return None if description["prior"] is None else np.array(description["prior"], np.float64)


_CLASS_DTYPES = {"U": str, "O": object, "i": np.int64, "u": np.uint64, "f": float, "b": bool}


def _text(description: dict) -> str:
    return json.dumps(description, sort_keys=True)


def _to_json(value: Any) -> Any:
    """A parameter in values that JSON can hold."""
    if isinstance(value, PlanSampler):
        own = {name: _to_json(each) for name, each in value.get_params(deep=False).items()}
        return {"sampler": type(value).__name__, "parameters": own}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, dict):  # by labels, which need not be texts
        return {"items": [[_to_json(own), _to_json(each)] for own, each in value.items()]}
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, np.random.RandomState):  # its state is that of no later fit
        return None
    if isinstance(value, list | tuple):
        return [_to_json(each) for each in value]
    return value if isinstance(value, bool | int | float | str | None) else repr(value)


def _from_json(value: Any) -> Any:
    """A parameter from JSON; a sampler that is not of this package stays its description."""
    if isinstance(value, dict) and value.keys() == {"sampler", "parameters"}:
        if value["sampler"] in samplers.__all__:
            own = {name: _from_json(each) for name, each in value["parameters"].items()}
            return getattr(samplers, value["sampler"])(**own)
        return value["sampler"]
    if isinstance(value, dict) and value.keys() == {"items"}:
        return dict(value["items"])
    return value

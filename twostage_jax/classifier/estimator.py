"""`TwoStageClassifier`: the study's recipe for one data set, as a scikit-learn estimator."""

import os
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import jax
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from twostage_jax.classifier import callbacks, inputs, storage
from twostage_jax.classifier.fitting import Fitted, fit_features, fit_images
from twostage_jax.classifier.predictor import Predictor, find_prior
from twostage_jax.classifier.recipe import Recipe
from twostage_jax.data.image_set import ImageSet
from twostage_jax.models.backbones import load_weights
from twostage_jax.models.weights import Weights
from twostage_jax.resampling.registry import make_sampler
from twostage_jax.study.approaches import Stage1
from twostage_jax.study.corrections import change_prior
from twostage_jax.support.errors import InputError
from twostage_jax.support.files import checksum, user_cache, user_path
from twostage_jax.training.bounds import require_image_size, require_valid
from twostage_jax.training.protocol import Protocol

_SAMPLERS = ("image_sampler", "feature_sampler")

_KINDS = {
    "network": str,
    "width": Real,
    "image_size": Integral,
    "epochs": Integral,
    "head_epochs": Integral,
    "batch_size": Integral,
    "learning_rate": Real,
    "bn_momentum": Real,
    "k_neighbors": Integral,
    "precision": str,
}
"""What parameters have to be."""

_MAY_BE_NONE = ("image_size", "head_epochs")


class TwoStageClassifier(callbacks.Support, ClassifierMixin, BaseEstimator):
    """Image classifier for rare classes: resampling of images, then of the network's features.

    Stage 1 trains a network on resampled images. Stage 2 passes the original images through it,
    resamples their features and fine-tunes the head (M. Koziarski, 2020). It is the code of the
    studies of this package: equal data, split, approach and seed give equal probabilities.

    X may be images (uint8, n x height x width x 3, or gray without channels), a sequence of image
    files, or the path of a folder: with class folders for `fit` (which also takes an `ImageSet` of
    `data.sources.load`), any folder for `predict`. X of two
    dimensions is a table of features of whatever network the user has; stage 2 alone is then
    fitted, on a new head, and everything that concerns images is ignored. Features should have
    about unit scale (`sklearn.preprocessing.StandardScaler`).

    Args:
        image_sampler: sampler of stage 1: a short name (`rus`, `ros`, `smote`, `borderline`,
            `adasyn`, `nearmiss1`, `nearmiss2`, `nearmiss3`, `tomek`, `enn`, `rbu`), a sampler of
            this package, or None for all images as they are.
        feature_sampler: sampler of stage 2, likewise. None leaves stage 2 out.
        approach: name of a registered approach that takes the place of the two, such as
            `post_prior`.
        network: backbone, `mobilenet_v1` or `mobilenet_v2`.
        width: width multiplier of the network's channels.
        weights: `imagenet` (downloaded once), None for random ones, or the path of one of Keras's
            `*_no_top.h5` files.
        image_size: side in pixels of the squares that images are fitted to. None keeps the size of
            arrays, and fits files to 150 pixels.
        epochs: epochs of stage 1.
        head_epochs: epochs of stage 2; None for as many.
        batch_size: samples per step.
        learning_rate: step size of RMSprop.
        bn_momentum: share of the running batch statistics that one step keeps. Lower it (0.9) for
            random weights or few images.
        k_neighbors: neighbors of over-samplers that are given by name.
        prior: class frequencies to predict under: None for those of training, `balanced`, or one
            frequency per class in the order of `classes_`. May be set after `fit`.
        precision: `float32`, `tf32` or `bfloat16`.
        device: `cpu`, `gpu` or `tpu`: refuse to work on another one. None takes what JAX finds.
        random_state: seed of every random stream.
        verbose: print a line per epoch.

    Attributes:
        classes_: the labels, sorted.
        class_counts_: training samples of each class.
        image_shape_: height, width and channels; None for features.
        n_features_in_: numbers per sample of X.
        history_: by stage, lists of the training loss (nats) and accuracy of each epoch.
    """

    def __init__(
        self,
        *,
        image_sampler="smote",
        feature_sampler="rus",
        approach=None,
        network="mobilenet_v1",
        width=1.0,
        weights="imagenet",
        image_size=None,
        epochs=20,
        head_epochs=None,
        batch_size=32,
        learning_rate=1e-4,
        bn_momentum=0.99,
        k_neighbors=5,
        prior=None,
        precision="float32",
        device=None,
        random_state=None,
        verbose=False,
    ):
        self.image_sampler = image_sampler
        self.feature_sampler = feature_sampler
        self.approach = approach
        self.network = network
        self.width = width
        self.weights = weights
        self.image_size = image_size
        self.epochs = epochs
        self.head_epochs = head_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.bn_momentum = bn_momentum
        self.k_neighbors = k_neighbors
        self.prior = prior
        self.precision = precision
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def set_params(self, **params):
        """Sets parameters; `image_sampler__k_neighbors` works for a sampler given by name, too.

        Raises:
            InputError (a ValueError): a sampler with such a parameter is None, or an unknown name.
            ValueError: there is no such parameter.
        """
        for own in _SAMPLERS:
            name = params.get(own, getattr(self, own))
            nested = [key for key in params if key.startswith(f"{own}__")]
            if nested and name is None:
                raise InputError(
                    f"{nested[0]} found, and {own} is None; expected a sampler: set {own}, too"
                )
            if nested and isinstance(name, str):
                made = make_sampler(name, seed=0, k_neighbors=self.k_neighbors)
                if "random_state" in made.get_params(deep=False):
                    made.set_params(random_state=None)
                params[own] = made
        return super().set_params(**params)

    @callbacks.managed
    def fit(self, X, y=None):
        """Fits the model.

        Args:
            X: images, files, a folder of class folders, or features; see the class.
            y: label of each sample; None for a folder, whose class folders are the labels, or for
                an image set.

        Raises:
            InputError (a ValueError): X, y or a parameter is not valid, a class is too small for a
                sampler, the weights cannot be had, or training diverged.
        """
        if loaded := getattr(self, "_loaded", None):
            raise InputError(
                f"this model was loaded from {loaded}, and fitting it would lose that; fit "
                "another one: sklearn.base.clone(model).fit(X, y)"
            )
        protocol = self._protocol()
        recipe = Recipe(self.image_sampler, self.feature_sampler, self.approach)
        with callbacks.epochs(self, protocol, recipe.approach, inputs.is_images(X)) as on_epoch:
            if inputs.is_images(X):
                fitted = self._fit_images(X, y, protocol, recipe, on_epoch)
            else:
                fitted = self._fit_features(X, y, protocol, recipe, on_epoch)
        self._fitted = fitted
        self.image_shape_ = fitted.image_shape
        self.history_ = fitted.history
        return self

    def _fit_images(self, X, y, protocol: Protocol, recipe: Recipe, on_epoch) -> Fitted:
        if inputs.is_folder(X) or isinstance(X, ImageSet):
            if y is not None:
                raise InputError(
                    "X is a folder and y is given; expected one of the two: the class folders are "
                    "the labels; or pass a list of files with y"
                )
            given = isinstance(X, ImageSet)
            image_set = X if given else inputs.read_folder(X, self.image_size)
            classes = np.array(image_set.class_names)
            find_prior(self.prior, len(classes))  # before the work
        else:
            images = inputs.read_images(X, self.image_size)
            classes, labels = _encode(y, len(images))
            find_prior(self.prior, len(classes))
            image_set = inputs.make_image_set(images, labels, [str(own) for own in classes])
        require_image_size(protocol, min(image_set.images.shape[1:3]))
        weights = self._weights(protocol)
        recipe = recipe.for_classes(classes)
        fitted = fit_images(image_set, protocol, recipe, weights, on_epoch)
        self._keep_data(classes, image_set.class_counts, image_set.fingerprint)
        self.n_features_in_ = int(np.prod(image_set.images.shape[1:]))
        self.__dict__.pop("feature_names_in_", None)
        return fitted

    def _fit_features(self, X, y, protocol: Protocol, recipe: Recipe, on_epoch) -> Fitted:
        own = recipe.approach
        from_network = own.stage2 is not None and own.stage2.learns != "head"
        if self.approach is not None and (own.stage1 != Stage1() or from_network):
            raise InputError(
                f"approach '{self.approach}' needs images or a network trained on them, and X "
                "holds features; choose an approach of features, such as fs_rus, or pass images"
            )
        checked: Any = validate_data(self, X, y, dtype=np.float32)
        X, y = checked
        classes, labels = _encode(y, len(X))
        find_prior(self.prior, len(classes))
        names = [str(own) for own in classes]
        recipe = recipe.for_classes(classes)
        fitted = fit_features(X, labels, names, protocol, recipe, on_epoch)
        data = checksum({"X": X, "labels": labels}, str(classes.tolist()))
        self._keep_data(classes, np.bincount(labels), data)
        return fitted

    def _keep_data(self, classes, counts, fingerprint: str) -> None:
        self.classes_ = classes
        self.class_counts_ = np.asarray(counts)
        self._fingerprint = fingerprint

    def _protocol(self) -> Protocol:
        self._require_device()
        generator = check_random_state(self.random_state)
        seed = self.random_state
        if not isinstance(seed, int | np.integer):
            seed = generator.randint(2**31)
        own = {name: _parameter(self, name, kind) for name, kind in _KINDS.items()}
        del own["image_size"]  # of the images, which are not part of a protocol
        protocol = Protocol(**own, seed=int(seed))
        require_valid(protocol)
        return protocol

    def _weights(self, protocol: Protocol) -> Weights | None:
        if not isinstance(self.weights, str | os.PathLike | None):
            raise InputError(
                f"weights {self.weights!r} found; expected 'imagenet', None or the path of a file"
            )
        source = "random" if self.weights is None else os.fspath(self.weights)
        if source.startswith("~"):
            source = str(user_path(Path(source), "weights"))
        return load_weights(protocol.network, source, protocol.width, user_cache() / "weights")

    def _require_device(self) -> None:
        found = jax.local_devices()[0].platform
        if self.device not in (None, found):
            raise InputError(
                f"device '{self.device}' asked for, and JAX works on {found}; install JAX for it, "
                f"or set device to None or '{found}'"
            )

    def predict_proba(self, X):
        """Class probabilities, float32 n x classes, in the order of `classes_`.

        Args:
            X: images, files, a folder (searched deep, sorted by name) or features. Images of
                another size than the model's are fitted to it, with a warning.

        Raises:
            InputError (a ValueError): X does not fit the model, or a file cannot be read.
        """
        predictor = self._predictor()
        prior = find_prior(self.prior, len(self.classes_))
        features = self._features(predictor, X)
        probabilities = predictor.probabilities(features)
        if prior is None:
            return probabilities
        learned = self._fitted.prior
        if learned is None:
            raise InputError(
                f"prior {self.prior!r} found, but it is not known under which class frequencies "
                f"the probabilities of approach '{self.approach}' hold; set prior=None"
            )
        return change_prior(probabilities, learned, prior)

    def predict(self, X):
        """The most probable class of each sample; takes the X of `predict_proba`."""
        chosen = self.predict_proba(X).argmax(axis=1)
        return self.classes_[chosen]

    def decision_function(self, X):
        """Logarithms of the probabilities; for two classes, the difference of the two.

        They are float64, n x classes or n; takes the X of `predict_proba`.
        """
        logs = np.log(np.maximum(self.predict_proba(X).astype(np.float64), 1e-45))
        return logs[:, 1] - logs[:, 0] if len(self.classes_) == 2 else logs

    @available_if(lambda self: getattr(self, "image_shape_", None) is not None)
    def transform(self, X):
        """Features of images, float32 n x f, which the head classifies; the X of `predict_proba`.

        A model that was fitted on features has none of its own, and not this method.
        """
        return self._features(self._predictor(), X)

    def save(self, path, *, force: bool = False) -> None:
        """Writes the model into a folder, whole or not at all; nothing in it is a pickle.

        Args:
            path: of the folder, which is made.
            force: replace what is there, if that is a model, too.

        Raises:
            InputError: there is something at the path.
            OSError: it cannot be written.
        """
        check_is_fitted(self)
        storage.write_model(path, self, force=force)

    @classmethod
    def load(cls, path) -> "TwoStageClassifier":
        """Reads a model that `save` wrote. It needs no data and no other weights.

        Raises:
            InputError: it is no model, damaged, or of a newer version.
            OSError: it cannot be read.
        """
        return storage.read_model(path, cls)

    def _predictor(self) -> Predictor:
        check_is_fitted(self)
        self._require_device()
        return Predictor(self._fitted)

    def _features(self, predictor: Predictor, X) -> np.ndarray:
        shape = self.image_shape_
        images = inputs.is_images(X)
        if shape is None and not images:
            checked: Any = validate_data(self, X, reset=False, dtype=np.float32)
            return checked
        if shape is None or not images:
            found, expected = ("images", "features") if shape is None else ("a table", "images")
            raise InputError(
                f"X holds {found}, and the model was fitted on {expected}; expected such an X"
            )
        return predictor.features(inputs.read_images(X, None, shape))

    def __sklearn_is_fitted__(self) -> bool:
        """Whether there is something to predict with."""
        return hasattr(self, "_fitted")

    def __sklearn_tags__(self):
        """What scikit-learn is told: X may be images or file names."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        return tags


def _parameter(model: TwoStageClassifier, name: str, kind: type) -> Any:
    """A parameter as Python's own type: a grid search may have set one of NumPy's."""
    value = getattr(model, name)
    if value is None and name in _MAY_BE_NONE:
        return None
    if not isinstance(value, kind):
        wanted = {str: "a text", Real: "a number", Integral: "an integer"}[kind]
        wanted += " or None" if name in _MAY_BE_NONE else ""
        raise InputError(f"{name} {str(value)[:40]!r} found, {wanted} expected")
    return value.item() if isinstance(value, np.generic) else value


def _encode(y: Any, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """The sorted labels, and the position of each sample's label among them, int32."""
    if y is None:
        raise InputError("y is missing; expected the label of each sample (only a folder has them)")
    y = column_or_1d(y, warn=True)
    if len(y) != samples:
        raise InputError(f"{samples} samples and {len(y)} labels found; expected as many of each")
    try:
        check_classification_targets(y)
        classes, labels = np.unique(y, return_inverse=True)
    except TypeError as error:
        raise InputError(
            f"labels that cannot be told apart found in y ({error}); expected texts or integers"
        ) from error
    if len(classes) < 2:
        raise InputError("one class found in y, at least two classes expected; add samples")
    return classes, labels.astype(np.int32)

"""Bad input: the samplers raise what imbalanced-learn raises."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

import twostage_jax
from tests import sampler_grid
from tests.sampler_grid import CLEAN, OVER, UNDER
from twostage_jax.support.errors import InputError

PLAIN = [variant for variant in sampler_grid.VARIANTS if not variant.options]
SPARSE = "sparse matrix"


def bad_inputs() -> Iterator[tuple]:
    """Titles, kinds of samplers, X, y, and the strategy if it is not `auto`."""
    x, y = sampler_grid.make_data((60, 5), "float64", 3, 0)
    every, scaling = (OVER, UNDER, CLEAN), (OVER, UNDER)
    two = x[y > 0], y[y > 0]

    def with_value(value: Any, dtype: type = float) -> np.ndarray:
        changed = x.astype(dtype)
        changed[3, 1] = value
        return changed

    few = np.where(np.cumsum(y == 2) > 2, 0, y) * (y == 2) + y * (y != 2)
    sizes = [np.zeros((4, 4 + (row == 7))) for row in range(len(y))]
    mixed = pd.DataFrame(x, columns=list("abcde")).assign(stain=np.where(y == 0, "pink", "violet"))
    yield "one class", every, x, np.zeros_like(y)
    yield "class of two samples", every, x, few
    yield "NaN", every, with_value(np.nan), y
    yield "infinity", every, with_value(np.inf), y
    yield "text", every, with_value("violet", object), y
    yield "numbers and text in a data frame", every, mixed, y
    yield SPARSE, every, csr_matrix(x), y
    yield "images of different sizes", every, sizes, y
    yield "continuous y", every, x, x[:, 0]
    yield "unknown class in a dict", scaling, x, y, {9: 40}
    yield "unknown class in a list", (CLEAN,), x, y, [9]
    yield "more asked than there are", (UNDER,), x, y, {1: 37}
    yield "fewer asked than there are", (OVER,), x, y, {1: 35}
    yield "negative number", scaling, x, y, {1: -1}
    yield "ratio, three classes", scaling, x, y, 0.9
    yield "ratio that would remove", (OVER,), *two, 0.01
    yield "ratio that would add", (UNDER,), *two, 0.01
    yield "ratio of 1.5", scaling, x, y, 1.5
    yield "dict", (CLEAN,), x, y, {1: 20}
    yield "list", scaling, x, y, [1]
    yield "majority", (OVER,), x, y, "majority"
    yield "minority", (UNDER, CLEAN), x, y, "minority"
    yield "unknown name", every, x, y, "most"


@pytest.mark.parametrize("bad", [*bad_inputs()], ids=lambda bad: bad[0])
def test_exceptions_agree_on_bad_input(bad):
    """Ours has imbalanced-learn's type or a derived one. Sparse X is refused on purpose."""
    title, kinds, x, y, *strategy = bad
    for variant in (variant for variant in PLAIN if variant.kind in kinds):
        theirs, ours = (
            sampler_grid.attempt(variant.make(library, *strategy or ["auto"], 0), x, y).error
            for library in (variant.reference, twostage_jax)
        )
        expected = isinstance(ours, TypeError) and theirs is None
        assert expected if title == SPARSE else sampler_grid.same_exception(theirs, ours), (
            variant.title
        )
        if title == "class of two samples" and variant.name == "SMOTE":
            assert "class 2 has 2 samples" in str(ours)


def test_one_sided_selection_of_seeds_alone_is_one_line():
    """imbalanced-learn's classifier refuses to predict nothing."""
    x, y = np.array([[0.0], [1.0], [2.0]]), np.array([0, 1, 1])
    sampler = twostage_jax.OneSidedSelection(n_seeds_S=9, random_state=0)
    with pytest.raises(InputError, match=r"^all 2 samples of class 1 are among its 9 seeds"):
        sampler.fit_resample(x, y)

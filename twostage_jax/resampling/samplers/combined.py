"""SMOTE, and what cleans its result."""

from abc import abstractmethod
from typing import Any

from imblearn import combine, over_sampling, under_sampling
from sklearn.base import clone

from twostage_jax.resampling.plan import Plan
from twostage_jax.resampling.samplers.base import PlanSampler
from twostage_jax.resampling.samplers.cleaning import EditedNearestNeighbours, TomekLinks
from twostage_jax.resampling.samplers.smote import SMOTE
from twostage_jax.support.errors import InputError


def _planning(sampler: Any, theirs: type, ours: type[PlanSampler]) -> Any:
    """A sampler that gives a plan, of one that may be imbalanced-learn's own.

    Raises:
        InputError: it is a subclass of imbalanced-learn's, which has no counterpart here.
    """
    if isinstance(sampler, PlanSampler):
        return clone(sampler)
    if type(sampler) is not theirs:
        raise InputError(
            f"{sampler!r} found, which gives no plan; pass {ours.__name__} of twostage_jax"
        )
    return ours(**sampler.get_params(deep=False))


class _Cleaned(PlanSampler):
    """A plan of SMOTE, and of it the rows that a second sampler keeps.

    Attributes:
        smote_: the first sampler.
    """

    smote: Any
    sampling_strategy: Any
    random_state: Any

    @abstractmethod
    def _cleaner(self) -> Any:
        """Makes the second sampler, which becomes an attribute."""

    def _smote(self) -> Any:
        if self.smote is not None:
            return _planning(self.smote, over_sampling.SMOTE, SMOTE)
        return SMOTE(sampling_strategy=self.sampling_strategy, random_state=self.random_state)

    def _require(self, y, targets) -> None:
        self._smote().require_classes(y)

    def _decide(self, x, y) -> Plan:
        self.smote_ = self._smote()
        grown = self.smote_.plan(x, y)
        kept = self._cleaner().plan(grown.materialize(x), grown.label)
        return grown.take(kept.base)


class SMOTEENN(_Cleaned, combine.SMOTEENN):
    """SMOTE, and then edited nearest neighbors (Batista et al., 2004).

    Args:
        smote: a `SMOTE`; by default one with the arguments here.
        enn: an `EditedNearestNeighbours`; by default one that cleans all classes.

    Attributes:
        enn_: the second sampler.
    """

    def _cleaner(self) -> Any:
        given = self.enn or EditedNearestNeighbours(sampling_strategy="all", n_jobs=self.n_jobs)
        theirs = under_sampling.EditedNearestNeighbours
        self.enn_ = _planning(given, theirs, EditedNearestNeighbours)
        return self.enn_


class SMOTETomek(_Cleaned, combine.SMOTETomek):
    """SMOTE, and then the removal of Tomek links (Batista et al., 2003).

    Args:
        smote: a `SMOTE`; by default one with the arguments here.
        tomek: a `TomekLinks`; by default one that cleans all classes.

    Attributes:
        tomek_: the second sampler.
    """

    def _cleaner(self) -> Any:
        given = self.tomek or TomekLinks(sampling_strategy="all", n_jobs=self.n_jobs)
        self.tomek_ = _planning(given, under_sampling.TomekLinks, TomekLinks)
        return self.tomek_

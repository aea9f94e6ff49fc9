"""The estimator at the door: fit, keep and predict with one model."""

from twostage_jax.classifier.estimator import TwoStageClassifier

__all__ = ["TwoStageClassifier"]

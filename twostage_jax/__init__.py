"""Two-stage resampling for training image classifiers on imbalanced data."""

__version__ = "0.1.0"

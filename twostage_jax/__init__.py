"""Two-stage resampling for training image classifiers on imbalanced data."""

"""Exact nearest neighbors, of images and of features."""

from twostage_jax.resampling.neighbors.products import squared_distances
from twostage_jax.resampling.neighbors.ranked import (
    ClassNeighbors,
    rank_neighbors,
    subset_neighbors,
)
from twostage_jax.resampling.neighbors.search import Neighbors, nearest

__all__ = [
    "ClassNeighbors",
    "Neighbors",
    "nearest",
    "rank_neighbors",
    "squared_distances",
    "subset_neighbors",
]

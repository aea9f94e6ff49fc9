"""The nine approaches: which sampler works in image space and which in feature space."""

from typing import NamedTuple


class Approach(NamedTuple):
    """A pair of samplers: None, `rus`, `ros` or `smote` each.

    Attributes:
        image_sampler: resamples the images that stage 1 trains the network on.
        feature_sampler: resamples the features that stage 2 fine-tunes the head on.
        two_stages: whether there is a stage 2.
        title: as printed.
    """

    image_sampler: str | None
    feature_sampler: str | None
    two_stages: bool
    title: str


# In the order of the paper's Table II.
APPROACHES = {
    "baseline": Approach(None, None, False, "Baseline"),
    "is_rus": Approach("rus", None, False, "IS RUS"),
    "is_ros": Approach("ros", None, False, "IS ROS"),
    "is_smote": Approach("smote", None, False, "IS SMOTE"),
    "fs_rus": Approach(None, "rus", True, "FS RUS"),
    "fs_ros": Approach(None, "ros", True, "FS ROS"),
    "fs_smote": Approach(None, "smote", True, "FS SMOTE"),
    "ts_smote_smote": Approach("smote", "smote", True, "TS SMOTE+SMOTE"),
    "ts_smote_rus": Approach("smote", "rus", True, "TS SMOTE+RUS"),
}

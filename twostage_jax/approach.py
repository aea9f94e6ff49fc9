"""The nine approaches: which sampler works in image space and which in feature space."""

from typing import NamedTuple


class Approach(NamedTuple):
    """A pair of samplers: None, `rus`, `ros` or `smote` each.

    Attributes:
        image_sampler: resamples the images that stage 1 trains the network on.
        feature_sampler: resamples the features that stage 2 fine-tunes the head on.
        two_stages: whether there is a stage 2.
    """

    image_sampler: str | None
    feature_sampler: str | None
    two_stages: bool

    @property
    def network(self) -> str:
        """Name of the stage-1 network; approaches of one name share one network."""
        return self.image_sampler or "none"


# In the order of the paper's Table II.
APPROACHES = {
    "baseline": Approach(None, None, False),
    "is_rus": Approach("rus", None, False),
    "is_ros": Approach("ros", None, False),
    "is_smote": Approach("smote", None, False),
    "fs_rus": Approach(None, "rus", True),
    "fs_ros": Approach(None, "ros", True),
    "fs_smote": Approach(None, "smote", True),
    "ts_smote_smote": Approach("smote", "smote", True),
    "ts_smote_rus": Approach("smote", "rus", True),
}

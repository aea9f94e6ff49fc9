"""Published numbers of methods for rare classes: float64, from the formulas of their papers."""

import json
from pathlib import Path

import numpy as np

GOLDEN = json.loads(Path(__file__).with_name("golden_long_tail.json").read_text())
INPUTS = {name: np.array(values) for name, values in GOLDEN["inputs"].items()}

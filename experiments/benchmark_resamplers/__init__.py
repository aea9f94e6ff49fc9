"""Our resamplers beside imbalanced-learn's: `data`, the `work` of each engine, and the `report`."""

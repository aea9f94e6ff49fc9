"""Image sets, where they come from, and the partitions of a study."""

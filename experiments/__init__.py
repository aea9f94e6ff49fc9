"""Programs that use the library: the paper's study and its benchmarks."""

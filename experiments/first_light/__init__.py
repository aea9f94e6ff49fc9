"""What runs first on a machine with an accelerator: checks, benchmarks and a cell of the study."""

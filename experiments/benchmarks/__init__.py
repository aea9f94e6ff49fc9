"""What the benchmarks share: options, worker processes that take turns, and documents."""

"""What the benchmarks share: the device, processes, memory, how numbers are printed and drawn."""

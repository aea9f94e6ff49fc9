"""What accelerators that are not here would need, as their compilers plan it."""

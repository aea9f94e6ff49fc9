"""Training of many networks and heads at once: protocol, steps, lifting, checkpoints."""

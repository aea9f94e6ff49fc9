"""Training of many networks as one program, timed beside PyTorch and Keras."""

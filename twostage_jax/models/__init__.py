"""Networks (backbones and the head) and the ImageNet weights that they start from."""

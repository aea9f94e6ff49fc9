"""Networks (backbones and the head) and the ImageNet weights that training starts from."""

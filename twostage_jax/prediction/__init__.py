"""Predictions of image files: found, made in a stream, and written as they come."""

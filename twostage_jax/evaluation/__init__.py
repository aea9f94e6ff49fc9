"""Scores of records: metrics, tables, statistics and the paper's published numbers."""

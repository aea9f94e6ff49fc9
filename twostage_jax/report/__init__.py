"""The report: a study's folder as one HTML page, its figures as SVG and its tables as CSV."""

from twostage_jax.report.page import write_report as write_report

"""Metrics for answers: pure functions on text and numbers.

Knows no models, data sets or files.
"""

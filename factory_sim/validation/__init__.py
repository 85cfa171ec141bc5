"""Predictions held against measurements: cases, their errors, and the parameters fitted to them."""

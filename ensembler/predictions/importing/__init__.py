"""Predictions of other tools, in."""

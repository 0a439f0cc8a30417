"""Mirrors of a run in experiment trackers. The run's folder is the truth."""

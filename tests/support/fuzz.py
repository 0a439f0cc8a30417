"""How many invented cases a test tries: a few chosen ones each time, many with `ENS_FUZZ=1`."""

import os
from typing import TypeVar

import hypothesis

FUZZ = bool(os.environ.get("ENS_FUZZ"))
Value = TypeVar("Value")


def some(few: Value, many: Value) -> Value:
    """`few` in a usual run, `many` with `ENS_FUZZ=1`."""
    return many if FUZZ else few


def examples(few: int) -> hypothesis.settings:
    """Settings for `few` examples, always the same ones.

    Twenty times as many new ones with `ENS_FUZZ=1`.
    """
    return hypothesis.settings(
        max_examples=some(few, 20 * few), deadline=None, derandomize=not FUZZ
    )

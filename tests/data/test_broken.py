"""Samples whose images cannot be read."""

import numpy as np
import pandas as pd
import pytest

from ensembler.data.broken import drop_broken
from ensembler.data.images import ArrayImages
from ensembler.data.samples import SampleSet
from ensembler.errors import DataError

BROKEN = {1: "b.png: the file is empty"}


@pytest.fixture
def samples():
    table = pd.DataFrame(
        {"id": list("abcd"), "split": "train", "label": ["x", "y", "x", "y"]}
    )
    images = ArrayImages(np.zeros((4, 2, 2), np.uint8), "made")
    return SampleSet(table, ("label",), {"label": ("x", "y")}, images)


def test_without_a_broken_image_nothing_changes(samples):
    assert drop_broken(samples, {}, "stop") is samples


def test_broken_images_stop_a_run_or_leave_with_their_names(samples):
    with pytest.raises(DataError, match=r"1 images cannot be read"):
        drop_broken(samples, BROKEN, "stop")
    kept = drop_broken(samples, BROKEN, "skip")
    assert kept.table["id"].tolist() == ["a", "c", "d"]
    assert kept.left_out == ("b",)
    assert len(kept.images) == 3


def test_a_class_that_would_be_lost_is_named(samples):
    both = {**BROKEN, 3: "d.png: the file is empty"}
    with pytest.raises(DataError, match="no image of class 'y' of label can be read"):
        drop_broken(samples, both, "skip")

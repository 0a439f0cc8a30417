"""What the key of prepared pixels holds: equal keys are equal pixels."""

import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from ensembler.data.contents import Contents, read_contents
from ensembler.data.images import FileImages
from ensembler.data.pixel_key import pixels_key, prepared_otherwise
from ensembler.data.spec import InputSpec

SPEC = InputSpec(size=8)


def key(tmp_path, *sizes, spec=SPEC):
    paths = [tmp_path / f"{width}x{height}.png" for width, height in sizes]
    for path, (width, height) in zip(paths, sizes, strict=True):
        Image.new("L", (width, height)).save(path)
    return pixels_key(FileImages(paths), spec, tmp_path / "cache")


def old_key(tmp_path, *sizes, spec=SPEC):
    """As it was before each axis was scaled in its own way."""
    paths = [tmp_path / f"{width}x{height}.png" for width, height in sizes]
    sums = read_contents(FileImages(paths), tmp_path / "cache").checksum
    options = spec.model_dump(mode="json", exclude={"prepare", "decode", "bits"})
    digest = hashlib.sha256(json.dumps([2, options], sort_keys=True).encode())
    digest.update("\n".join(sums).encode())
    return digest.hexdigest()[:24]


def test_pixels_that_are_as_they_were_keep_their_key(tmp_path):
    sizes = [(16, 12), (4, 8), (9, 9), (8, 8)]
    assert key(tmp_path, *sizes) == old_key(tmp_path, *sizes)


@pytest.mark.parametrize("size", [(16, 4), (4, 16), (16, 8)])
def test_pixels_that_are_scaled_otherwise_have_another_key(tmp_path, size):
    assert key(tmp_path, (9, 9), size) != old_key(tmp_path, (9, 9), size)
    fit = InputSpec(size=8, resize="fit")
    assert key(tmp_path, (9, 9), size, spec=fit) == old_key(
        tmp_path, (9, 9), size, spec=fit
    )


def test_a_crop_counts_before_it_is_said_which_side_shrinks(tmp_path):
    contents = Contents(np.array(["a"]), np.array([[16, 9, 8]], np.int32))
    assert list(prepared_otherwise(contents, SPEC)) == []
    cropped = InputSpec(size=8, prepare=("grey", {"center_crop": 0.8}))
    assert list(prepared_otherwise(contents, cropped)) == ["axes"]


def test_new_options_are_in_the_key_only_where_they_are_used(tmp_path):
    keys = {
        key(tmp_path, (16, 16), spec=InputSpec(size=8, **more))
        for more in ({}, {"decode": "reduced"}, {"bits": 12})
    }
    assert len(keys) == 3
    assert InputSpec(size=8).described == {
        "size": 8,
        "channels": 3,
        "resize": "stretch",
        "prepare": [],
    }

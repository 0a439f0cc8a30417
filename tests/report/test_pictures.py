import base64
import io

import numpy as np
import pytest
from PIL import Image

from ensembler.data.images import ArrayImages
from ensembler.errors import ImageError
from ensembler.predictions.testing import write_fake_run
from ensembler.report.pictures import SIDE, Gallery, as_source, gallery_of_run


class Broken(ArrayImages):
    def read(self, index, how=None):
        if index == 1:
            raise ImageError("the file is empty")
        return self.array[index]


@pytest.fixture
def images():
    return Broken(
        np.random.default_rng(0).integers(0, 256, (5, 300, 200, 3), np.uint8), "x"
    )


def gallery(images, **options):
    return Gallery(images, {f"s{i}": i for i in range(5)}, **options)


def test_a_picture_is_small_and_inside_the_page():
    source = as_source(np.zeros((300, 200, 3), np.uint8))
    kind, _, data = source.partition(";base64,")
    assert kind == "data:image/webp"
    assert max(Image.open(io.BytesIO(base64.b64decode(data))).size) == SIDE
    grey = as_source(np.zeros((20, 20, 1), np.uint8))
    assert Image.open(io.BytesIO(base64.b64decode(grey.partition(",")[2]))).size == (20, 20)


def test_pictures_say_what_they_are_and_those_that_cannot_be_read_are_named(images):
    found = gallery(images)
    sheet = found.sheet("the hardest", ["s0", "s1", "s9"], [["cat", "dog"]] * 3)
    assert [picture.lines for picture in sheet.pictures] == [("s0", "cat", "dog")]
    assert sheet.pictures[0].alt == "image s0: cat, dog"
    assert found.unreadable == ["image s1: the file is empty"]


@pytest.mark.parametrize("budget", [{"left": 2}, {"bytes_left": 5000}, {"left": 0}])
def test_the_budget_holds(images, budget):
    found = gallery(images, **budget)
    names = ["s0", "s2", "s3", "s4"]
    sheet = found.sheet("all", names, [["cat"]] * 4)
    pictures = () if sheet is None else sheet.pictures
    assert len(pictures) <= budget.get("left", 4)
    assert sum(len(p.source) for p in pictures) <= budget.get("bytes_left", 10**6)


def test_a_run_of_imported_predictions_has_no_pictures_and_says_why(tmp_path):
    found = gallery_of_run(write_fake_run(tmp_path / "fake"), 10)
    assert "not made from a recipe" in found

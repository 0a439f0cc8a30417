import numpy as np
import pytest
import torch

from ensembler.inference.predict import predict_logits
from ensembler.inference.views import expand_views


class CornerPixel(torch.nn.Module):
    """Logits are the channels of the upper left pixel, and its weights are changed by nobody."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(scale))

    def forward(self, images):
        return images[:, :, 0, 0].float() * self.scale


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 255, (9, 4, 4, 3), dtype=np.uint8)


def predict(networks, pixels, rows, views=("identity",), **options):
    views = expand_views(list(views))
    rows = np.asarray(rows)
    return predict_logits(
        networks, pixels, rows, views, classes=3, device="cpu", amp="off", **options
    )


def test_logits_are_by_network_view_and_row_in_the_order_asked_for(pixels):
    rows = [7, 2, 2]
    found = predict([CornerPixel(), CornerPixel(2.0)], pixels, rows, ["identity", "hflip"])
    assert found.shape == (2, 2, 3, 3)
    assert np.array_equal(found[0, 0], pixels[rows, 0, 0])
    assert np.array_equal(found[0, 1], pixels[rows, 0, 3])
    assert np.array_equal(found[1], 2 * found[0])


def test_the_size_of_batches_changes_nothing(pixels):
    rows = np.arange(9)
    by_four = predict([CornerPixel()], pixels, rows, batch_size=4)
    assert np.array_equal(by_four, predict([CornerPixel()], pixels, rows))


def test_an_array_that_is_given_is_filled(pixels):
    out = np.full((1, 1, 9, 3), -1, np.float32)
    assert predict([CornerPixel()], pixels, np.arange(9), out=out) is out
    assert np.array_equal(out[0, 0], pixels[:, 0, 0])


def test_values_that_are_not_finite_are_returned_as_they_are(pixels):
    assert np.isnan(predict([CornerPixel(float("nan"))], pixels, [0, 1])).all()

import gzip

import numpy as np
import pytest

from ensembler.data.built_in import read_digits, read_fashion_mnist, read_idx
from ensembler.errors import DataError


def idx(array):
    shape = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes([0, 0, 8, array.ndim]) + shape + array.astype(np.uint8).tobytes()


@pytest.mark.parametrize("packed", [False, True])
def test_an_idx_file_is_read_plain_or_packed(tmp_path, packed):
    array = np.arange(24).reshape(2, 3, 4)
    path = tmp_path / ("images.gz" if packed else "images")
    path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    assert np.array_equal(read_idx(path, 3), array)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[:-1], "was cut short"),
        (lambda content: content + b"x", "its header says"),
        (lambda content: b"\x01" + content[1:], "is not an idx file of 1 dimensions"),
        (lambda content: content[:5], "is not an idx file"),
    ],
)
def test_a_file_that_is_not_whole_is_named(tmp_path, change, message):
    path = tmp_path / "labels"
    path.write_bytes(change(idx(np.arange(10))))
    with pytest.raises(DataError, match=message):
        read_idx(path, 1)


def test_a_packed_file_that_is_torn_is_named(tmp_path):
    path = tmp_path / "labels.gz"
    path.write_bytes(gzip.compress(idx(np.arange(10)))[:-4])
    with pytest.raises(DataError, match="not a whole gzip file"):
        read_idx(path, 1)


def test_digits_are_grey_images_of_ten_classes_and_need_no_folder():
    (part,), classes = read_digits(None)
    assert (len(part.ids), len(set(part.ids)), classes) == (1797, 1797, tuple("0123456789"))
    assert set(part.labels) == set(range(10))
    assert part.images.read(0).shape[:2] == (8, 8)
    with pytest.raises(DataError, match=r"data\.root is not used"):
        read_digits("somewhere")


def test_images_and_labels_of_fashion_mnist_belong_together(tmp_path):
    for name, n, labels in (("train", 4, 4), ("t10k", 2, 3)):
        (tmp_path / f"{name}-images-idx3-ubyte").write_bytes(idx(np.zeros((n, 28, 28))))
        (tmp_path / f"{name}-labels-idx1-ubyte").write_bytes(idx(np.zeros(labels)))
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte do not fit together"):
        read_fashion_mnist(str(tmp_path))
    with pytest.raises(DataError, match=r"needs data\.root"):
        read_fashion_mnist(None)
    with pytest.raises(DataError, match=r"has no train-images-idx3-ubyte\(\.gz\)"):
        read_fashion_mnist(str(tmp_path / "empty"))

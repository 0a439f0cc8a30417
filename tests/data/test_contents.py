import os

import numpy as np
import pytest
from PIL import Image

from ensembler.data.contents import read_contents
from ensembler.data.images import FileImages
from ensembler.errors import DataError


@pytest.fixture
def paths(tmp_path):
    found = [tmp_path / f"{i}.png" for i in range(3)]
    for i, path in enumerate(found):
        Image.fromarray(np.full((4, 5 + i, 3), 10 * i, np.uint8)).save(path)
    return found


@pytest.fixture
def looks(monkeypatch):
    """Which files were read."""
    seen = []
    real = FileImages.content

    def content(self, index):
        seen.append(self.paths[index].name)
        return real(self, index)

    monkeypatch.setattr(FileImages, "content", content)
    return seen


def test_sizes_and_checksums_are_known_without_decoding(paths, tmp_path):
    found = read_contents(FileImages(paths), tmp_path / "cache")
    assert found.header.tolist() == [[4, 5, 8], [4, 6, 8], [4, 7, 8]]
    assert len(set(found.checksum)) == 3


def test_an_unchanged_file_is_read_once_and_a_changed_one_again(paths, tmp_path, looks):
    first = read_contents(FileImages(paths), tmp_path / "cache")
    assert sorted(looks) == ["0.png", "1.png", "2.png"]
    looks.clear()
    Image.fromarray(np.full((9, 9, 3), 1, np.uint8)).save(paths[1])
    os.utime(paths[1], (1, 1))
    second = read_contents(FileImages(paths), tmp_path / "cache")
    assert looks == ["1.png"]
    assert (first.checksum == second.checksum).tolist() == [True, False, True]
    assert second.header[1].tolist() == [9, 9, 8]


def test_a_memory_that_is_not_whole_is_made_again(paths, tmp_path, looks):
    read_contents(FileImages(paths), tmp_path / "cache")
    (kept,) = (tmp_path / "cache").glob("contents-*.npz")
    kept.write_bytes(kept.read_bytes()[:50])
    looks.clear()
    read_contents(FileImages(paths), tmp_path / "cache")
    assert len(looks) == 3


def test_a_file_that_is_no_image_has_no_size_and_one_that_is_missing_is_named(
    paths, tmp_path
):
    paths[2].write_bytes(b"text")
    assert read_contents(FileImages(paths), tmp_path / "cache").header[2].tolist() == [
        0,
        0,
        0,
    ]
    paths[0].unlink()
    with pytest.raises(DataError, match=r"0\.png: cannot be read"):
        read_contents(FileImages(paths), tmp_path / "cache")

import os

import cv2
import numpy as np
import pytest
from PIL import Image

from ensembler.audit.facts import look_at_images
from ensembler.data import pixels
from ensembler.data.decoding import AS_IT_IS, Decoding
from ensembler.data.images import FileImages
from ensembler.data.pixels import find_broken, prepare_pixels
from ensembler.data.spec import InputSpec
from ensembler.errors import DataError, RequestError
from ensembler.files import sha256_of
from ensembler.progress import RecordedProgress

SPEC = InputSpec(size=8)


@pytest.fixture
def images(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(6)]
    for i, path in enumerate(paths):
        Image.new("RGB", (16, 12), (10 * i, 0, 0)).save(path)
    return FileImages(paths)


class Counting:
    def __init__(self, images):
        self.images, self.reads = images, 0

    def __len__(self):
        return len(self.images)

    def name(self, index):
        return self.images.name(index)

    def fingerprint(self, index):
        return self.images.fingerprint(index)

    def content(self, index):
        return self.images.content(index)

    def header(self, index):
        return self.images.header(index)

    def read(self, index, how=AS_IT_IS):
        self.reads += 1
        return self.images.read(index, how)


def test_pixels_are_prepared_once_and_mapped_from_disk(images, tmp_path):
    counting = Counting(images)
    first = prepare_pixels(counting, SPEC, tmp_path / "cache")
    again = prepare_pixels(counting, SPEC, tmp_path / "cache")
    assert counting.reads == 6
    assert first.shape == (6, 8, 8, 3)
    assert (
        first[:, 0, 0, 0].tolist() == again[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40, 50]
    )
    assert isinstance(again, np.memmap)


def test_a_changed_file_or_input_is_prepared_again(images, tmp_path):
    counting = Counting(images)
    prepare_pixels(counting, SPEC, tmp_path / "cache")
    Image.new("RGB", (16, 12), (200, 0, 0)).save(images.paths[0])
    os.utime(images.paths[0], ns=(1, 1))
    assert prepare_pixels(counting, SPEC, tmp_path / "cache")[0, 0, 0, 0] == 200
    prepare_pixels(counting, InputSpec(size=8, channels=1), tmp_path / "cache")
    assert counting.reads == 18


def test_other_content_of_the_same_size_and_time_is_noticed(images, tmp_path):
    path, cache = images.paths[0], tmp_path / "cache"
    Image.new("RGB", (16, 12)).save(path.with_suffix(".bmp"))
    bmp = FileImages([path.with_suffix(".bmp")])
    times = bmp.paths[0].stat()
    assert prepare_pixels(bmp, SPEC, cache)[0, 0, 0, 0] == 0
    Image.new("RGB", (16, 12), (200, 0, 0)).save(bmp.paths[0])
    os.utime(bmp.paths[0], ns=(times.st_atime_ns, times.st_mtime_ns))
    assert bmp.paths[0].stat().st_size == times.st_size
    assert prepare_pixels(bmp, SPEC, cache)[0, 0, 0, 0] == 200


def test_the_same_images_elsewhere_share_the_cache(images, tmp_path):
    counting = Counting(images)
    prepare_pixels(counting, SPEC, tmp_path / "cache")
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in images.paths:
        path.rename(moved / path.name)
    prepare_pixels(
        Counting(FileImages([moved / path.name for path in images.paths])),
        SPEC,
        tmp_path / "cache",
    )
    assert counting.reads == 6
    assert len(list((tmp_path / "cache").glob("pixels-*.npy"))) == 1


def test_pixels_that_do_not_fit_are_read_from_their_files_with_a_note(
    images, tmp_path, monkeypatch
):
    kept = prepare_pixels(images, SPEC, tmp_path / "cache")
    monkeypatch.setenv("ENS_CACHE_GB", "0.000001")
    progress = RecordedProgress()
    read = prepare_pixels(images, SPEC, tmp_path / "other", progress=progress)
    assert not list((tmp_path / "other").glob("*.npy"))
    assert "ENS_CACHE_GB" in progress.notes[0]
    assert read.shape == kept.shape
    np.testing.assert_array_equal(read[np.array([4, 0])], kept[[4, 0]])
    np.testing.assert_array_equal(read[2], kept[2])
    np.testing.assert_array_equal(read[1:3], kept[1:3])


def test_broken_images_are_found_when_nothing_is_kept(images, tmp_path, monkeypatch):
    monkeypatch.setenv("ENS_CACHE_GB", "0")
    images.paths[3].write_bytes(b"x")
    for _ in range(2):
        with pytest.raises(DataError, match=r"3\.png"):
            prepare_pixels(images, SPEC, tmp_path / "cache")


@pytest.mark.parametrize("given", ["much", "-1", "inf"])
def test_a_room_that_is_no_number_is_refused(images, tmp_path, monkeypatch, given):
    monkeypatch.setenv("ENS_CACHE_GB", given)
    with pytest.raises(RequestError, match="ENS_CACHE_GB"):
        prepare_pixels(images, SPEC, tmp_path / "cache")


def test_a_damaged_cache_is_built_again(images, tmp_path):
    prepare_pixels(images, SPEC, tmp_path / "cache")
    (path,) = (tmp_path / "cache").glob("*.npy")
    path.write_bytes(path.read_bytes()[:200])
    assert prepare_pixels(images, SPEC, tmp_path / "cache")[5, 0, 0, 0] == 50


def test_all_broken_images_are_named_at_once(images, tmp_path):
    images.paths[1].write_bytes(b"")
    images.paths[4].write_bytes(b"x")
    with pytest.raises(DataError) as caught:
        prepare_pixels(images, SPEC, tmp_path / "cache")
    assert "2 images cannot be read" in str(caught.value)
    assert sorted(find_broken(images, SPEC, tmp_path / "cache")) == [1, 4]


def test_pixels_are_kept_where_the_system_has_no_posix_fallocate(
    images, tmp_path, monkeypatch
):
    monkeypatch.delattr("os.posix_fallocate")  # as on macOS
    kept = prepare_pixels(images, SPEC, tmp_path / "cache")
    assert kept[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40, 50]


# --- the cache is what was written
# -----------------------------------------------------------------------------------


def the_cache(tmp_path):
    (path,) = (tmp_path / "cache").glob("pixels-*.npy")
    return path


def alter(path, keep_time=False):
    times = path.stat()
    content = bytearray(path.read_bytes())
    content[-500:] = bytes(500)
    path.write_bytes(content)
    if keep_time:
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("keep_time", [False, True])
def test_an_altered_cache_is_built_again_and_one_line_says_so(images, tmp_path, keep_time):
    prepare_pixels(images, SPEC, tmp_path / "cache")
    alter(the_cache(tmp_path), keep_time)
    progress = RecordedProgress()
    again = prepare_pixels(images, SPEC, tmp_path / "cache", progress=progress)
    assert again[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40, 50]
    assert len(progress.notes) == 1
    assert "altered" in progress.notes[0]
    prepare_pixels(images, SPEC, tmp_path / "cache", progress=progress)
    assert len(progress.notes) == 1


def test_broken_images_are_looked_for_in_a_cache_that_is_whole(images, tmp_path):
    prepare_pixels(images, SPEC, tmp_path / "cache")
    alter(the_cache(tmp_path))
    progress = RecordedProgress()
    assert find_broken(images, SPEC, tmp_path / "cache", progress=progress) == {}
    assert len(progress.notes) == 1


def test_a_cache_that_was_only_moved_is_read_through_once(images, tmp_path, monkeypatch):
    counting = Counting(images)
    prepare_pixels(counting, SPEC, tmp_path / "cache")
    os.utime(the_cache(tmp_path), ns=(1, 1))
    read = []
    monkeypatch.setattr(
        pixels, "sha256_of", lambda path: read.append(path) or sha256_of(path)
    )
    for _ in range(3):
        prepare_pixels(counting, SPEC, tmp_path / "cache")
    assert counting.reads == 6
    assert len(read) == 1


def test_a_cache_made_before_there_were_checksums_is_kept(images, tmp_path):
    counting = Counting(images)
    prepare_pixels(counting, SPEC, tmp_path / "cache")
    the_cache(tmp_path).with_suffix(".json").write_text('{"broken": {}}')
    prepare_pixels(counting, SPEC, tmp_path / "cache")
    assert counting.reads == 6
    alter(the_cache(tmp_path))
    prepare_pixels(counting, SPEC, tmp_path / "cache")
    assert counting.reads == 12


def test_a_cache_that_belongs_to_others_is_only_read(images, tmp_path, monkeypatch):
    prepare_pixels(images, SPEC, tmp_path / "cache")
    os.utime(the_cache(tmp_path), ns=(1, 1))

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pixels, "write_aside", refuse)
    assert prepare_pixels(images, SPEC, tmp_path / "cache")[5, 0, 0, 0] == 50


def test_images_refused_for_their_size_are_read_once_more_are_allowed(
    images, tmp_path, monkeypatch
):
    monkeypatch.setenv("ENS_MAX_MEGAPIXELS", "0.0001")
    assert len(find_broken(images, SPEC, tmp_path / "cache")) == 6
    monkeypatch.delenv("ENS_MAX_MEGAPIXELS")
    assert prepare_pixels(images, SPEC, tmp_path / "cache")[5, 0, 0, 0] == 50


def test_an_altered_cache_is_not_read_where_there_is_no_room_for_another(
    images, tmp_path, monkeypatch
):
    prepare_pixels(images, SPEC, tmp_path / "cache")
    alter(the_cache(tmp_path))
    monkeypatch.setenv("ENS_CACHE_GB", "0")
    for _ in range(2):
        assert prepare_pixels(images, SPEC, tmp_path / "cache")[5][0, 0, 0] == 50


def test_images_under_a_folder_whose_name_is_not_utf8_are_prepared(images, tmp_path):
    odd = tmp_path / "caf\udce9"
    odd.mkdir()
    for path in images.paths:
        path.rename(odd / path.name)
    moved = FileImages([odd / path.name for path in images.paths])
    assert prepare_pixels(moved, SPEC, tmp_path / "cache")[5, 0, 0, 0] == 50
    assert look_at_images(moved, tmp_path / "cache").readable.all()


def test_twelve_bits_of_sixteen_use_all_levels_when_the_recipe_says_so(tmp_path):
    levels = np.repeat(np.linspace(0, 4095, 64).astype(np.uint16), 64).reshape(64, 64)
    Image.fromarray(levels).save(tmp_path / "x.png")
    images = FileImages([tmp_path / "x.png"])
    as_they_are, spread = (
        prepare_pixels(
            images, InputSpec(size=64, channels=1, bits=bits), tmp_path / "cache"
        )[0]
        for bits in (None, 12)
    )
    assert len(np.unique(as_they_are)) == 17
    assert len(np.unique(spread)) == 64
    assert spread.max() == 255


def test_reduced_decoding_is_near_full_decoding_and_leaves_small_images_alone(tmp_path):
    rng = np.random.default_rng(0)
    large = cv2.resize(
        rng.integers(0, 256, (30, 40, 3), dtype=np.uint8),
        (800, 600),
        interpolation=cv2.INTER_CUBIC,
    )
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(large).save(tmp_path / "large.jpg", quality=92)
    Image.fromarray(large).save(tmp_path / "turned.jpg", quality=92, exif=exif)
    Image.fromarray(large[:100, :100]).save(tmp_path / "small.jpg", quality=92)
    images = FileImages([tmp_path / f"{name}.jpg" for name in ("large", "turned", "small")])
    assert images.read(0, Decoding(at_least=128)).shape == (150, 200, 3)
    assert images.read(1, Decoding(at_least=128)).shape == (200, 150, 3)
    assert images.read(2, Decoding(at_least=128)).shape == (100, 100, 3)
    full, reduced = (
        prepare_pixels(images, InputSpec(size=64, decode=how), tmp_path / "cache")[:]
        for how in ("full", "reduced")
    )
    assert 0 < np.abs(full.astype(int) - reduced).mean() < 3
    np.testing.assert_array_equal(full[2], reduced[2])

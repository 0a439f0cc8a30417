import threading

import numpy as np
import pytest
import torch
from PIL import Image

from ensembler import Predictor
from ensembler.data.decoding import decode
from ensembler.errors import ImageError, MissingExtraError, RequestError


@pytest.fixture(scope="module")
def predictor(written):
    return Predictor.load(written, device="cpu")


@pytest.fixture(scope="module")
def paths(pictures):
    return sorted(pictures.rglob("*.png"))


def test_paths_pil_images_arrays_and_tensors_are_the_same_images(predictor, paths):
    of_paths = predictor(paths)
    arrays = [decode(path) for path in paths]
    assert of_paths.shape == (6, 3)
    assert of_paths.sum(axis=1) == pytest.approx(np.ones(6), abs=1e-6)
    tensors = [torch.from_numpy(a.transpose(2, 0, 1).copy()) for a in arrays]
    shares = [tensor.float() / 255 for tensor in tensors]
    for given in (
        [str(path) for path in paths],
        [Image.open(path) for path in paths],
        arrays,
        tensors,
        shares,
        iter(arrays),
    ):
        assert np.array_equal(predictor(given), of_paths)


def test_one_image_is_a_batch_of_one_and_none_is_a_batch_of_none(predictor, paths):
    one = predictor(paths[0])
    assert one.shape == (1, 3)
    assert one == pytest.approx(predictor(paths)[:1], abs=1e-6)
    assert np.array_equal(predictor(decode(paths[0])), one)
    assert np.array_equal(predictor(Image.open(paths[0])), one)
    assert predictor([]).shape == (0, 3)


def test_batches_of_arrays_and_tensors_of_any_size(predictor):
    batch = np.random.default_rng(0).integers(0, 256, (70, 16, 16, 3)).astype(np.uint8)
    whole = predictor(batch)
    assert whole.shape == (70, 3)
    assert np.array_equal(predictor(torch.from_numpy(batch.transpose(0, 3, 1, 2))), whole)
    one_by_one = np.concatenate([predictor(image) for image in batch[:3]])
    assert one_by_one == pytest.approx(whole[:3], abs=1e-5)


def test_grey_turned_and_transparent_images_are_read_as_files_are(predictor, tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (20, 30, 4)).astype(np.uint8)
    pictures = {
        "grey.png": Image.fromarray(pixels[:, :, 0]),
        "clear.png": Image.fromarray(pixels),
    }
    turned = Image.fromarray(pixels[:, :, :3])
    turned.getexif()[0x0112] = 6
    for name, image in pictures.items():
        image.save(tmp_path / name)
        assert np.array_equal(predictor(image), predictor(tmp_path / name))
    turned.save(tmp_path / "turned.png", exif=turned.getexif())
    with Image.open(tmp_path / "turned.png") as opened:
        assert np.array_equal(predictor(opened), predictor(tmp_path / "turned.png"))


def test_scikit_learns_names(predictor, paths):
    assert predictor.classes_.tolist() == ["cat", "dog", "eel"]
    probs = predictor.predict_proba(paths)
    assert predictor.predict(paths).tolist() == [
        predictor.classes_[i] for i in probs.argmax(axis=1)
    ]


def test_several_threads_get_what_one_gets(predictor, paths):
    alone = [predictor(path) for path in paths]
    found: dict[int, np.ndarray] = {}

    def work(i):
        for _ in range(3):
            found[i] = predictor(paths[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(paths))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(found[i], alone[i]) for i in found)
    assert len(found) == len(paths)


@pytest.mark.parametrize(
    "given",
    [
        3,
        None,
        {"a": 1},
        b"bytes",
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3)),
        np.zeros((0, 4, 3), np.uint8),
        [np.zeros((2, 2, 2, 3), np.uint8)],
        torch.full((3, 4, 4), 2.0),
        torch.full((3, 4, 4), float("nan")),
    ],
)
def test_what_is_no_image_is_a_request_error(predictor, given):
    with pytest.raises(RequestError):
        predictor(given)


def test_an_image_that_cannot_be_read_is_named(predictor, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"a\.jpg"):
        predictor([tmp_path / "a.jpg"])


def test_an_engine_that_is_not_installed_is_named(written, monkeypatch):
    monkeypatch.setattr("ensembler.inference.engines.registry.find_spec", lambda _: None)
    with pytest.raises(RequestError, match="engine: openvino needs the extra 'openvino'"):
        Predictor.load(written, engine="openvino", device="cpu")


def test_without_torch_the_extra_is_named(written, monkeypatch):
    monkeypatch.setattr("ensembler.bundle.predictor.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="Predictor needs the extra 'train'"):
        Predictor.load(written)


def test_every_target_has_its_probabilities(predictor, paths):
    found = predictor.by_target(paths)
    assert list(found) == ["label"]
    assert np.array_equal(found["label"], predictor(paths))

import numpy as np
import pytest
from safetensors.numpy import load_file

from ensembler.errors import StoreError
from ensembler.predictions.finished_folds import (
    FinishedFold,
    finished_folds,
    fold_path,
    read_finished_fold,
    write_finished_fold,
)


@pytest.fixture
def fold():
    rng = np.random.default_rng(0)
    oof = rng.normal(size=(2, 4, 3)).astype(np.float32)
    test = rng.normal(size=(2, 5, 3)).astype(np.float32)
    return FinishedFold(
        1, np.array([0, 3, 5, 9]), oof, test, {"views": ["identity"], "seconds": 1}
    )


def test_what_is_written_is_what_is_read(tmp_path, fold):
    write_finished_fold(tmp_path, fold)
    found = read_finished_fold(tmp_path, 1)
    assert found.record == fold.record
    for name in ("rows", "oof", "test"):
        assert np.array_equal(getattr(found, name), getattr(fold, name))


def test_the_file_is_one_that_safetensors_reads(tmp_path, fold):
    write_finished_fold(tmp_path, fold)
    arrays = load_file(fold_path(tmp_path, 1))
    assert np.array_equal(arrays["test"], fold.test)
    assert arrays["rows"].dtype == np.int64


def test_a_fold_without_test_rows_is_a_fold(tmp_path, fold):
    write_finished_fold(
        tmp_path, FinishedFold(0, fold.rows, fold.oof, fold.test[:, :0], fold.record)
    )
    assert read_finished_fold(tmp_path, 0).test.shape == (2, 0, 3)


@pytest.mark.parametrize("where", [9, 0.3, 0.9])
def test_any_altered_byte_is_found(tmp_path, fold, where):
    write_finished_fold(tmp_path, fold)
    path = fold_path(tmp_path, 1)
    content = bytearray(path.read_bytes())
    content[where if isinstance(where, int) else int(where * len(content))] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"fold1\.logits\.safetensors"):
        read_finished_fold(tmp_path, 1)


@pytest.mark.parametrize("size", [0, 7, 100, -1])
def test_a_file_cut_short_is_found(tmp_path, fold, size):
    write_finished_fold(tmp_path, fold)
    path = fold_path(tmp_path, 1)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(StoreError, match="remove it"):
        read_finished_fold(tmp_path, 1)


def test_folds_are_finished_when_their_files_are_there(tmp_path, fold):
    assert finished_folds(tmp_path, 3) == []
    write_finished_fold(tmp_path, fold)
    assert finished_folds(tmp_path, 3) == [1]

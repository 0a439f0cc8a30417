import json

import numpy as np
import pytest

from ensembler.errors import RequestError
from ensembler.evaluation.diversity import compare_members
from ensembler.predictions.testing import write_fake_run


@pytest.fixture
def run(tmp_path):
    return write_fake_run(tmp_path / "fake", {"a": 2.0, "b": 1.0, "c": 0.5})


def test_members_are_compared_on_the_rows_that_the_store_has(run):
    found = compare_members(run)
    assert sorted(found.found.names) == ["a", "b", "c"]
    assert found.n_rows == 60
    said = [
        run.member(name).oof(run.classes("label")).argmax(axis=1)
        for name in found.found.names
    ]
    assert found.found.disagreement[0, 1] == pytest.approx((said[0] != said[1]).mean())


def test_only_the_members_that_are_named_are_compared(run):
    assert compare_members(run, ["c", "a"]).found.names in (("c", "a"), ("a", "c"))
    with pytest.raises(RequestError, match="differences need two"):
        compare_members(run, ["a"])


def test_the_page_is_written_where_it_was_asked_for(run, tmp_path):
    found = compare_members(run, page=tmp_path / "page.html")
    assert "<svg" in found.page.read_text()
    assert json.loads(json.dumps(found.to_json()))["page"] == str(tmp_path / "page.html")


def test_a_page_that_cannot_be_written_is_refused_before_anything_is_compared(
    run, tmp_path
):
    (tmp_path / "a file").write_text("")
    with pytest.raises((RequestError, OSError)):
        compare_members(run, page=tmp_path / "a file" / "page.html")


def test_disagreement_is_the_same_both_ways_and_none_with_oneself(run):
    matrix = compare_members(run).found.disagreement
    assert np.array_equal(matrix, matrix.T)
    assert (np.diag(matrix) == 0).all()

import numpy as np
import pytest

from ensembler.targets.label_sets import (
    NO_LABEL,
    SetFormat,
    indicators,
    is_known,
    read_set,
    strata,
    without_labels,
)


@pytest.mark.parametrize(
    ("form", "value", "stored"),
    [
        (SetFormat(" "), "dog cat", "cat|dog"),
        (SetFormat(" "), " dog  cat dog ", "cat|dog"),
        (SetFormat("|"), "Mass|Nodule", "Mass|Nodule"),
        (SetFormat(", "), "black cat, dog", "black cat|dog"),
        (SetFormat("|", "No Finding"), "No Finding", "|"),
        (SetFormat("|", "No Finding"), "Mass|No Finding", "Mass"),
        (SetFormat(" ", ""), "", "|"),
        (SetFormat(" "), "", None),
        (SetFormat(" ", "none"), "", None),
    ],
)
def test_a_cell_becomes_a_sorted_set(form, value, stored):
    assert form.parse(value) == stored


def test_what_was_read_is_written_as_it_was():
    for form, value in (
        (SetFormat("|", "No Finding"), "No Finding"),
        (SetFormat(" ", ""), ""),
        (SetFormat(" "), "a b"),
    ):
        assert form.format(read_set(form.parse(value))) == value


def test_a_label_that_samples_csv_cannot_hold_is_refused():
    with pytest.raises(ValueError, match=r"'a.b'"):
        SetFormat(" ").parse("a|b c")


def test_indicators_tell_none_from_unknown():
    found = indicators(["b|a", "|", None, "b"], ["a", "b", "c"])
    assert found.tolist() == [[1, 1, 0], [0, 0, 0], [-1, -1, -1], [0, 1, 0]]
    assert is_known(found).tolist() == [True, True, False, True]
    assert is_known(np.array([0, -1])).tolist() == [True, False]
    with pytest.raises(KeyError, match="d"):
        indicators(["d"], ["a"])


def test_rows_are_stratified_by_their_rarest_label_and_small_strata_join_the_largest():
    sets = ["a", "a|b", "a", "a|b", "|", None, "a|b|c"]
    assert strata(sets, 1) == ["a", "b", "a", "b", NO_LABEL, None, "c"]
    assert strata(sets, 2) == ["a", "b", "a", "b", "b", None, "b"]


def test_labels_taken_out_leave_a_set_that_may_be_empty():
    assert without_labels("a|b", {"a"}) == "b"
    assert without_labels("a", {"a"}) == "|"
    assert without_labels(None, {"a"}) is None

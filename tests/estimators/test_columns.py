import numpy as np
import pandas as pd
import pytest

from ensembler.estimators.columns import ColumnEncoder, as_categories, as_numbers

KINDS = {"age": "number", "site": "category"}


def table(ages, sites):
    return pd.DataFrame(
        {"age": as_numbers(pd.Series(ages)), "site": as_categories(pd.Series(sites))}
    )


def test_cells_are_numbers_where_all_that_are_not_empty_are():
    assert as_numbers(pd.Series(["1", " 2.5 ", ""])).tolist()[:2] == [1.0, 2.5]
    assert as_numbers(pd.Series(["1", "two"])) is None
    assert as_numbers(pd.Series(["1", "inf"])) is None


def test_for_trees_what_is_missing_or_unseen_stays_missing():
    fitted = ColumnEncoder.fitted(table(["1", "3"], ["a", "b"]), KINDS, for_trees=True)
    found = fitted.encode(table(["", "7"], ["b", "new"]))
    assert found.is_category.tolist() == [True, False]
    assert found.x[0, 0] == 1
    assert np.isnan(found.x[0, 1])
    assert np.isnan(found.x[1, 0])
    assert found.x[1, 1] == 7


def test_for_other_heads_a_missing_number_is_the_median_of_the_train_rows_and_says_so():
    fitted = ColumnEncoder.fitted(
        table(["1", "3", "8", ""], ["a", "b", "a", ""]), KINDS, for_trees=False
    )
    found = fitted.encode(table(["", "2"], ["a", "new"]))
    assert not found.is_category.any()
    assert found.x.tolist() == [[1, 0, 0, 3, 1], [0, 0, 0, 2, 0]]


def test_a_column_that_is_empty_in_the_train_rows_is_no_obstacle():
    rows = table(["", ""], ["", ""])
    for for_trees in (True, False):
        fitted = ColumnEncoder.fitted(rows, KINDS, for_trees=for_trees)
        assert len(fitted.encode(table(["5"], ["x"])).x) == 1


@pytest.mark.parametrize("for_trees", [True, False])
def test_a_column_of_hundreds_of_categories_is_taken(for_trees):
    sites = [f"s{n}" for n in range(400)]
    rows = table(["1"] * 400, sites)
    found = ColumnEncoder.fitted(rows, KINDS, for_trees=for_trees).encode(rows)
    assert np.isfinite(found.x).all()
    assert not (for_trees and found.is_category.any())  # more than trees have bins

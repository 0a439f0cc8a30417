"""What is compared when a recipe meets its run again, and what is known without comparing."""

from types import SimpleNamespace

import pandas as pd
import pytest

from ensembler.data.spec import FoldSpec
from ensembler.errors import ChangedRecipeError
from ensembler.workspace import changes
from ensembler.workspace.changes import check_rows
from ensembler.workspace.fingerprints import data_fingerprint


@pytest.fixture
def met(monkeypatch):
    """A run and the samples it was made of; splitting them again gives another fold."""
    table = pd.DataFrame(
        {"id": ["a", "b"], "label": ["x", "y"], "path": ["a.png", "b.png"]}
    )
    samples = SimpleNamespace(table=table)
    run = pd.DataFrame({"id": ["a", "b"], "label": ["x", "y"], "fold": [0, 1]})
    again = SimpleNamespace(table=run.assign(fold=[1, 0]))
    monkeypatch.setattr(changes, "split_samples", lambda *_: again)
    lock = SimpleNamespace(
        recipe={"name": "r"}, samples="s", data=data_fingerprint(samples)
    )
    store = SimpleNamespace(
        name="r",
        folder="artifacts/r",
        lock=lock,
        samples_sha256="s",
        samples=SimpleNamespace(table=run),
    )
    return store, samples


def test_equal_data_and_an_equal_samples_csv_are_not_split_again(met):
    store, samples = met
    check_rows(SimpleNamespace(folds=FoldSpec()), store, samples)


@pytest.mark.parametrize("change", ["samples.csv", "the data", "a lock that says nothing"])
def test_anything_else_is_compared_row_by_row(met, change):
    store, samples = met
    if change == "samples.csv":
        store.samples_sha256 = "another"
    elif change == "the data":
        samples.table.loc[0, "label"] = "y"
    else:
        store.lock.recipe = {}
    with pytest.raises(
        ChangedRecipeError, match="the data of run 'r' have changed in 'fold'"
    ):
        check_rows(SimpleNamespace(folds=FoldSpec()), store, samples)

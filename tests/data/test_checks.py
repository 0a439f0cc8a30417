"""Labels of both parts against each other and against the classes, without any image."""

import pandas as pd
import pytest

from ensembler.data.checks import check_ids, check_labels
from ensembler.data.spec import DataSpec
from ensembler.errors import DataError
from ensembler.targets.label_sets import SetFormat
from ensembler.targets.target import Target

FORMS = {"label": None, "tags": SetFormat(" ")}


def table_of(train, test=(), name="label"):
    splits = ["train"] * len(train) + ["test"] * len(test)
    labels = pd.Series([*train, *test], dtype=object)
    paths = [f"{i}.png" for i in range(len(labels))]
    return pd.DataFrame({"id": paths, "path": paths, "split": splits, name: labels})


def check(table, classes=("a", "b"), stated=(), faults=None):
    name = table.columns[-1]
    check_labels(table, [Target(name, classes, FORMS[name])], stated, "m.csv", faults)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (table_of(["a", "A", "b"]), "differ only in case"),
        (table_of(["a", "b", "c"]), "classes do not name: c"),
        (table_of(["a", "a"]), "one class 'a'; two are needed"),
        (table_of([None, None]), "no label at all"),
        (table_of(["a", "b"], ["x"]), "only in the test part: x"),
        (table_of(["a|b", "a|c"], name="tags"), "classes do not name: c"),
        (table_of(["a|b", "a"], ["b|x"], name="tags"), "only in the test part: x"),
    ],
)
def test_what_does_not_fit_is_an_error(table, message):
    with pytest.raises(DataError, match=message):
        check(table)


def test_stated_classes_may_look_alike():
    check(table_of(["a", "A"]), classes=("a", "A"), stated={"label"})


def test_an_audit_gets_faults_with_codes_and_rows_without_such_labels():
    table, faults = table_of(["a", "b", "c"], ["a", "x"]), []
    check(table, faults=faults)
    assert [fault.code for fault in faults] == ["label_only_in_test", "data"]
    assert faults[0].files == ("4.png",)
    assert table["label"].tolist() == ["a", "b", None, "a", None]


def test_ids_are_there_and_unique():
    spec = DataSpec(source="m.csv")
    check_ids(table_of(["a", "b"]), spec)
    with pytest.raises(DataError, match=r"row 3 of m\.csv"):
        check_ids(table_of(["a", "b"]).assign(id=["1", ""]), spec)
    with pytest.raises(DataError, match="1 duplicate ids, such as '1'"):
        check_ids(table_of(["a", "b"]).assign(id="1"), spec)

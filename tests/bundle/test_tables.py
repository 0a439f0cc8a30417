import io
import json

import numpy as np
import pandas as pd
import pytest

from ensembler.bundle import tables
from ensembler.bundle.tables import AnswerColumns, check_ending, write_predictions
from ensembler.errors import RequestError
from ensembler.targets.label_sets import SetFormat
from ensembler.targets.target import Target

IDS = ("a/1.jpg", "b,2.jpg", "ü.jpg")
PROBS = np.array([[1 / 3, 2 / 3], [1e-9, 1 - 1e-9], [np.nan, np.nan]], np.float32)
ANSWER = AnswerColumns(
    Target("label", ("cat", "dog")), PROBS, np.array([0.25, 0, np.nan], np.float32)
)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(tables, "ROWS", 2)


def written(form, answers=(ANSWER,)):
    file = io.BytesIO()
    write_predictions(file, form, IDS, answers)
    file.seek(0)
    return file


def test_a_csv_has_every_bit_of_a_probability_and_empty_rows_of_broken_images():
    text = written("csv").getvalue().decode()
    assert text.splitlines()[0] == "id,label,cat,dog,confidence,disagreement"
    table = pd.read_csv(io.StringIO(text))
    assert table["id"].tolist() == list(IDS)
    assert table["label"].tolist()[:2] == ["dog", "dog"]
    again = table[["cat", "dog"]].to_numpy().astype(np.float32)
    assert np.array_equal(again, PROBS, equal_nan=True)
    assert np.float32(table["confidence"][0]) == np.float32(2 / 3)
    assert table.loc[2].drop("id").isna().all()
    assert text.splitlines()[3] == "ü.jpg,,,,,"


def test_parquet_json_lines_and_npz_hold_the_same():
    csv = pd.read_csv(written("csv"))
    parquet = pd.read_parquet(written("parquet"))
    assert parquet.columns.tolist() == csv.columns.tolist()
    assert np.array_equal(parquet[["cat", "dog"]].to_numpy(), PROBS, equal_nan=True)
    assert parquet["label"].isna().tolist() == [False, False, True]
    lines = [json.loads(line) for line in written("jsonl")]
    assert lines[2] == {"id": "ü.jpg", **dict.fromkeys(csv.columns[1:])}
    assert lines[0]["dog"] == pytest.approx(2 / 3, abs=1e-7)
    with np.load(written("npz"), allow_pickle=False) as arrays:
        assert arrays["id"].tolist() == list(IDS)
        assert arrays["classes"].tolist() == ["cat", "dog"]
        assert np.array_equal(arrays["probs"], PROBS, equal_nan=True)
        assert arrays["label"].tolist() == ["dog", "dog", ""]


def test_labels_of_several_at_once_are_written_as_their_table_does():
    target = Target("tags", ("red", "blue"), SetFormat(";", "nothing"))
    probs = np.array([[0.9, 0.6], [0.1, 0.2], [0.3, 0.8]], np.float32)
    answer = AnswerColumns(target, probs, np.zeros(3, np.float32))
    table = pd.read_csv(written("csv", [answer]))
    assert table["label"].tolist() == ["red;blue", "nothing", "blue"]
    assert table["confidence"].tolist() == pytest.approx([0.6, 0.8, 0.7])


def test_further_targets_have_columns_of_their_own():
    other = AnswerColumns(
        Target("size", ("small", "large")), PROBS, np.zeros(3, np.float32), "size."
    )
    names = pd.read_csv(written("csv", [ANSWER, other])).columns.tolist()
    assert names[6:] == [
        "size.label", "size.small", "size.large", "size.confidence", "size.disagreement",
    ]  # fmt: skip


def test_a_class_that_is_called_like_a_fixed_column_stays_apart():
    target = Target("label", ("id", "label"))
    answer = AnswerColumns(target, PROBS, np.zeros(3, np.float32))
    names = pd.read_csv(written("csv", [answer])).columns.tolist()
    assert names == [
        "id", "label", "class:id", "class:label", "confidence", "disagreement",
    ]  # fmt: skip


def test_an_ending_that_says_no_form_is_refused(tmp_path):
    assert check_ending(tmp_path / "a.CSV") == "csv"
    for name in ("a.xlsx", "a"):
        with pytest.raises(RequestError, match="is no form of predictions"):
            check_ending(tmp_path / name)

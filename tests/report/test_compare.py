import json
import re

import numpy as np
import pytest

from ensembler.errors import RequestError
from ensembler.predictions.store import RunStore
from ensembler.predictions.testing import write_fake_run
from ensembler.report.report import report_run


@pytest.fixture
def runs(tmp_path):
    strong = write_fake_run(
        tmp_path / "strong", {"a": 1.5}, n_train=300, views=["identity"]
    )
    weak = write_fake_run(tmp_path / "weak", {"a": 0.5}, n_train=300)
    return strong, weak


def test_two_runs_are_compared_row_by_row_and_what_flipped_is_listed(runs):
    strong, weak = runs
    written = report_run(strong, strong.folder.parent, compare=weak)
    assert written.file.name == "report-strong-weak.html"
    text = written.file.read_text()
    said = re.search(
        r"strong is (\w+) than weak: the difference in log loss is ([\d.]+)", text
    )
    assert said.group(1) == "better"
    y = strong.labels("label", "train")
    probs = [run.member("a").oof(run.classes("label")) for run in runs]
    losses = [-np.log(p[np.arange(len(y)), y]).mean() for p in probs]
    assert float(said.group(2)) == pytest.approx(losses[1] - losses[0], abs=1e-4)
    right = [p.argmax(axis=1) == y for p in probs]
    assert f"Right in strong alone: {(right[0] & ~right[1]).sum()} of 300 rows" in text
    lost = (right[1] & ~right[0]).sum()
    assert lost
    assert f"Right in weak alone: {lost} of 300 rows" in text


def test_rows_are_matched_by_id_and_classes_by_name(runs, tmp_path):
    strong, _ = runs
    other = write_fake_run(
        tmp_path / "other", {"a": 2.5}, n_train=300, classes=("eel", "dog", "cat")
    )
    table = other.samples.table
    table["label"] = strong.samples.table["label"]
    table.to_csv(other.samples_path, index=False)
    record = other.folder / "members" / "a" / "member.json"
    content = json.loads(record.read_text())
    del content["sha256"]["samples.csv"]
    record.write_text(json.dumps(content))
    other = RunStore(other.folder)
    mine, theirs = (run.member("a").oof(("cat", "dog", "eel")) for run in (strong, other))
    y = strong.labels("label", "train")
    flipped = ((mine.argmax(axis=1) == y) & (theirs.argmax(axis=1) != y)).sum()
    text = report_run(strong, tmp_path, compare=other).file.read_text()
    assert f"Right in strong alone: {flipped} of 300 rows" in text


def test_what_cannot_be_compared_is_refused(runs, tmp_path):
    strong, _ = runs
    other = write_fake_run(tmp_path / "other", {"a": 1.0}, classes=("x", "y"))
    with pytest.raises(RequestError, match="cannot be compared"):
        report_run(strong, tmp_path, compare=other)
    assert not (strong.folder / "report-strong-other.html").exists()

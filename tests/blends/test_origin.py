"""The score of a submission: in the metric of its blend, and without running what a record names."""

import json

import pytest

from ensembler.blends.second import second_choice
from ensembler.blends.submit import submit_run
from ensembler.blends.teacher import BlendTeacher
from ensembler.errors import RequestError
from ensembler.predictions.store import RunStore
from ensembler.reporting.versions import all_versions
from ensembler.run import Run


@pytest.fixture
def store(fake_run, tmp_path, monkeypatch):
    """A run with a blend, and a module on the Python path that must not be imported."""
    (tmp_path / "planted.py").write_text("raise AssertionError('it was run')")
    monkeypatch.syspath_prepend(tmp_path)
    Run(fake_run).blend("soft", name="best")
    return fake_run


def recorded_with(store, key, value):
    """The run with another value in the record of its blend."""
    path = store.blend_folder("best") / "blend.json"
    record = json.loads(path.read_text())
    if key == "metric":
        record["scores"]["cross_fitted"][value] = 0.25
    record["spec"][key] = value
    path.write_text(json.dumps(record))
    return RunStore(store.folder)


def test_a_metric_that_only_a_record_names_gives_the_recorded_score(store):
    submit_run(recorded_with(store, "metric", "planted:metric"))
    score = all_versions(store)[-1].score
    assert (score.metric, score.value, score.low) == ("planted:metric", 0.25, None)


def test_a_metric_under_the_name_that_it_had_before_is_the_same(store):
    submit_run(recorded_with(store, "metric", "cohen_kappa"))
    score = all_versions(store)[-1].score
    assert (score.metric, score.value) == ("quadratic_kappa", pytest.approx(0.25))
    assert score.low < score.high


@pytest.mark.parametrize(
    ("key", "value"), [("metric", "planted:m"), ("method", "planted:M")]
)
def test_nothing_is_fitted_by_code_that_only_a_record_names(store, key, value):
    altered = recorded_with(store, key, value)
    fold = altered.samples.folds("fold") == 0
    with pytest.raises(RequestError, match="what a record names is not run"):
        second_choice(altered, "best")
    with pytest.raises(RequestError, match="what a record names is not run"):
        BlendTeacher(altered, "best").without(fold)

import sqlite3
import tempfile
from functools import cache
from pathlib import Path

import pytest

from ensembler.errors import RequestError
from ensembler.experiments.space import Space
from ensembler.experiments.study import BrokenStudyError, Study
from ensembler.predictions.trials import TrialRecord
from ensembler.recipe.tune import TuneSpec

KEYS = {
    "opt": ["adamw", "sgd"],
    "lr": {"float": [1e-4, 1e-1], "log": True},
    "momentum": {"float": [0.8, 0.99], "when": {"opt": "sgd"}},
    "epochs": {"int": [2, 8], "step": 2},
}


@cache
def empty_file():
    """A file without studies; making its tables takes longest."""
    with tempfile.TemporaryDirectory() as folder:
        made = Study(Path(folder), "none", Space(TuneSpec(space={"lr": [1]}), "cnn", {}), 0)
        made.make_file()
        return made.path.read_bytes()


def study_in(folder, name="cnn-1", keys=KEYS, **options):
    tune = TuneSpec.model_validate({"space": keys, **options})
    made = Study(folder, name, Space(tune, "cnn", {}), seed=0)
    if not made.path.exists():
        folder.mkdir(exist_ok=True)
        made.path.write_bytes(empty_file())
    made.make()
    return made


def loss(params):
    return abs(params["lr"] - 0.01) + 0.01 * params["epochs"]


def tried(study, n):
    trials = []
    for _ in range(n):
        trial = study.ask([])
        study.finish(trial.number, "complete", loss(trial.params), 1.0)
        trials.append(trial)
    return trials


def test_no_values_are_drawn_twice_whatever_process_asks(tmp_path):
    first = tried(study_in(tmp_path), 2)
    second = tried(study_in(tmp_path), 2)
    params = [trial.params for trial in (*first, *second)]
    assert [trial.number for trial in (*first, *second)] == [0, 1, 2, 3]
    assert all(params.count(one) == 1 for one in params)


def test_the_same_study_draws_the_same_values(tmp_path):
    sampler = {"name": "tpe", "n_startup_trials": 2}
    one, two = (study_in(tmp_path / name, sampler=sampler) for name in ("one", "two"))
    assert [t.params for t in tried(one, 4)] == [t.params for t in tried(two, 4)]


def test_a_trial_whose_process_ended_is_taken_up_with_its_values(tmp_path):
    asked = study_in(tmp_path).ask([])
    again = study_in(tmp_path)
    resumed = again.resume(asked.number, [])
    assert (resumed.params, resumed.member) == (asked.params, asked.member)
    again.finish(resumed.number, "complete", 0.5, 1.0)
    assert [(t.number, t.state, t.value) for t in again.trials()] == [(0, "complete", 0.5)]


def test_a_trial_that_dies_every_time_is_given_up_and_one_left_for_later_is_not(tmp_path):
    study = study_in(tmp_path)
    number = study.ask([]).number
    for _ in range(3):
        study.release(number)
        study.resume(number, [])
    assert not study.has_died_too_often(number)
    for _ in range(2):
        study.resume(number, [])
    assert study.has_died_too_often(number)


def test_the_value_of_a_finished_trial_stays_what_it_was(tmp_path):
    study = study_in(tmp_path)
    (trial,) = tried(study, 1)
    study.finish(trial.number, "complete", -1.0, 9.0)
    study.finish(trial.number, "failed", None, 9.0, "nothing")
    assert study.trials()[0].value == loss(trial.params)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_a_trial_is_never_complete_without_a_finite_value(tmp_path, value):
    study = study_in(tmp_path)
    trial = study.ask([])
    with pytest.raises(ValueError, match="is not complete with the value"):
        study.finish(trial.number, "complete", value, 1.0)
    study.finish(trial.number, "failed", None, 1.0, f"log_loss is {value}")
    assert study.trials()[0].reason == f"log_loss is {value}"


def test_choices_that_are_mappings_are_kept_by_their_name_and_have_importances(tmp_path):
    keys = {"augment": [{"preset": "heavy"}, "none"], "lr": KEYS["lr"]}
    study = study_in(tmp_path, keys=keys)
    for _ in range(6):
        trial = study.ask([])
        study.finish(trial.number, "complete", trial.params["lr"], 1.0)
    assert {t.params["augment"] for t in study.trials()} == {"{preset: heavy}", "none"}
    found = study.importances()
    assert found["ped_anova"]["lr"] > found["ped_anova"]["augment"]
    assert found["fanova"]["lr"] > found["fanova"]["augment"]


def test_a_study_with_a_choice_more_is_one_of_its_own_in_the_same_file(tmp_path):
    tried(study_in(tmp_path), 1)
    more = study_in(tmp_path, "cnn-2", {**KEYS, "opt": ["adamw", "sgd", "lamb"]})
    record = TrialRecord(
        study="cnn-1",
        number=7,
        judged_by="x",
        member="tune-0007",
        params={"opt": "adamw", "lr": 0.01, "epochs": 4},
        state="complete",
        value=0.25,
    )
    more.add(record)
    (trial,) = more.trials()
    assert (trial.number, trial.member, trial.value) == (0, "tune-0007", 0.25)
    assert more.ask(["tune-0001"]).member == "tune-0002"
    assert sorted(more.names) == ["cnn-1", "cnn-2"]


def test_a_trial_that_was_running_when_its_study_was_lost_is_asked_first(tmp_path):
    study = study_in(tmp_path)
    params = {"opt": "adamw", "lr": 0.01, "epochs": 4}
    study.add(
        TrialRecord(study="s", number=3, judged_by="x", member="tune-0003", params=params)
    )
    trial = study.ask([])
    assert (trial.member, trial.params) == ("tune-0003", params)


def test_pruning_compares_trials_at_the_same_step(tmp_path):
    study = study_in(tmp_path, pruner={"name": "median", "n_startup_trials": 2})
    for value in (0.1, 0.2):
        trial = study.ask([])
        assert not study.report(trial.number, value, 1)
        study.finish(trial.number, "complete", value, 1.0)
    poor, good = study.ask([]), study.ask([])
    assert study.report(poor.number, 0.9, 1)
    assert not study.report(good.number, 0.05, 1)
    study.finish(poor.number, "pruned", 0.9, 1.0, "pruned")
    assert [(t.state, t.value) for t in study.trials()][2] == ("pruned", 0.9)


@pytest.mark.parametrize("size", [0.5, 0.98, 100])
def test_a_file_that_was_cut_is_named_with_what_to_do(tmp_path, size):
    study = study_in(tmp_path)
    tried(study, 3)
    study.close()
    content = study.path.read_bytes()
    cut = content[: int(size * len(content)) if size < 1 else size]
    study.path.write_bytes(cut)
    broken = Study(tmp_path, "cnn-1", study.space, 0)
    with pytest.raises(BrokenStudyError, match=r"study.db cannot be read.*--rebuild"):
        broken.check_file()
        broken.trials()


def test_a_file_that_is_none_is_named_with_what_to_do(tmp_path):
    study = study_in(tmp_path)
    study.close()
    study.path.write_bytes(b"nothing of the kind" * 1000)
    with pytest.raises(BrokenStudyError, match="--rebuild"):
        Study(tmp_path, "cnn-1", study.space, 0).check_file()


def test_the_file_appears_with_its_tables_or_not_at_all(tmp_path):
    study = Study(tmp_path, "cnn-1", Space(TuneSpec(space={"lr": [1]}), "cnn", {}), 0)
    study.make()
    assert [path.name for path in tmp_path.iterdir()] == ["study.db"]
    with sqlite3.connect(study.path) as connection:
        assert connection.execute("SELECT COUNT(*) FROM trials").fetchone() == (0,)
    connection.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"sampler": {"name": "tpe", "n_startup": 5}},
            "tune.sampler: tpe: got an unexpected",
        ),
        (
            {"pruner": {"name": "median", "warmup": 5}},
            "tune.pruner: median: got an unexpected",
        ),
    ],
)
def test_an_option_that_a_sampler_or_pruner_does_not_have_is_refused(
    tmp_path, options, message
):
    with pytest.raises(RequestError, match=message):
        study_in(tmp_path, **options).check()


@pytest.mark.parametrize("name", ["tpe", "qmc", "nsgaii", "brute_force"])
def test_every_sampler_asks_and_is_told(tmp_path, name):
    keys = {key: KEYS[key] for key in ("opt", "epochs")}
    study = study_in(tmp_path, keys=keys, sampler=name)
    for _ in range(3):
        trial = study.ask([])
        study.finish(trial.number, "complete", float(trial.params["epochs"]), 1.0)
    assert [trial.state for trial in study.trials()] == ["complete"] * 3

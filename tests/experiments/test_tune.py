import json
import shutil
import textwrap
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from ensembler import Recipe
from ensembler.errors import RecipeError, RequestError, TrainingError
from ensembler.experiments.study import BrokenStudyError
from ensembler.experiments.tables import search_tables
from ensembler.experiments.trial import TrialTrainer
from ensembler.experiments.tune import tune_recipe
from ensembler.metrics import score
from ensembler.pipeline.run import run_recipe
from ensembler.predictions.finished_folds import read_finished_fold, weights_path
from ensembler.predictions.store import RunStore
from ensembler.predictions.trials import trial_records
from ensembler.progress import Progress
from ensembler.stop import Stop

pytestmark = pytest.mark.timeout(600)

RECIPE = """
    name: search
    data: {source: shapes/train.csv, test: shapes/test.csv}
    folds: {count: 2}
    input: {size: 16}
    augment: none
    defaults: {backbone: "tinynets:tiny", epochs: 1, batch_size: 32, amp: off}
    members:
      cnn: {lr: 0.01}
    blend: {method: soft}
    tune:
      space:
        lr: {float: [1.0e-3, 1.0e-1], log: true}
        model_args.width: [4, 8]
        opt: [adamw, sgd]
        momentum: {float: [0.8, 0.95], when: {opt: sgd}}
        smoothing: {choices: {none: 0.0, some: 0.1}}
      trials: 4
      keep: 2
      weights: 3
"""


class Noted(Progress):
    def __init__(self):
        self.folds, self.notes = [], []

    def fold_done(self, task, text):
        self.folds.append((task.training, task.fold))

    def note(self, text):
        self.notes.append(text)


def written(folder, text=RECIPE, name="recipe.yaml"):
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return path


def tune(path, *overrides, **options):
    artifacts = path.parent / "artifacts"
    return tune_recipe(Recipe.load(path, overrides), artifacts, **options)


@pytest.fixture(scope="module")
def searched(workshop, drawn_shapes):
    """A recipe in a folder of its own, and what its search found."""
    shutil.copytree(drawn_shapes, workshop / "shapes")
    path = written(workshop)
    return path, tune(path)


@pytest.fixture
def again(searched, tmp_path, monkeypatch):
    """The same search in a copy, to go on with."""
    path, _ = searched
    shutil.copytree(path.parent, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy" / path.name


def test_every_trial_is_a_member_and_the_useful_ones_are_complete(searched):
    path, found = searched
    store = RunStore(path.parent / "artifacts" / "search")
    assert [t.trial.state for t in found.trials] == ["complete"] * 4
    assert sorted(t.folds_done for t in found.trials) == [1, 1, 2, 2]
    best = found.trials[found.best]
    assert best.trial.member in found.completed
    assert set(store.complete_members) == set(found.completed)
    assert store.joined_members == sorted(found.completed)
    record = store.member(best.trial.member).record
    assert (record.origin, record.trial["params"]) == ("trial", best.trial.params)


def test_a_value_is_the_score_of_the_weights_that_are_kept(searched):
    path, found = searched
    store = RunStore(path.parent / "artifacts" / "search")
    labels = store.labels("label", "train")
    for trial in (t.trial for t in found.trials if t.folds_done == 1):
        fold = read_finished_fold(store.member_folder(trial.member), 0)
        logits = fold.oof[0].astype(np.float64)
        probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        assert trial.value == pytest.approx(
            score("log_loss", probs, labels[fold.rows]), rel=1e-5
        )


def test_tables_and_figures_of_a_search_are_in_the_run(searched):
    path, found = searched
    folder = path.parent / "artifacts" / "search" / "tune"
    rows = (folder / "trials.csv").read_text().splitlines()
    columns = rows[0].split(",")
    assert columns[:3] == ["number", "state", "log_loss"]
    assert {"lr", "opt", "model_args.width", "folds_done"} <= set(columns)
    assert len(rows) == 5
    for name in ("history", "parallel"):
        root = ElementTree.fromstring((folder / f"{name}.svg").read_text())
        titles = [element.text for element in root.iter() if element.tag.endswith("title")]
        assert {f"trial {t.trial.number}" for t in found.trials} <= set(titles)
    tables = search_tables(found)
    assert [row[0] for row in tables[0].rows] == ["0", "1", "2", "3"]
    assert tables[0].best == (found.best,)


def test_weights_of_the_most_useful_trials_alone_are_kept(searched):
    path, found = searched
    store = RunStore(path.parent / "artifacts" / "search")
    kept = [
        t.trial.member
        for t in found.trials
        if weights_path(store.member_folder(t.trial.member), 0).is_file()
    ]
    assert len(kept) == 3
    assert set(found.completed) <= set(kept)


def test_a_second_call_trains_nothing_and_more_trials_only_themselves(again):
    seen, more = Noted(), Noted()
    before = tune(again, progress=seen)
    assert seen.folds == []
    found = tune(again, trials=5, progress=more)
    assert ("tune-0004", 0) in more.folds
    assert [t.trial.value for t in found.trials][:4] == [
        t.trial.value for t in before.trials
    ]


def test_the_best_recipe_leads_to_the_data_and_runs(again):
    found = tune(again)
    best = Recipe.load(found.recipe)
    assert best.spec.name == "search-best"
    assert list(best.spec.members) == list(found.completed)
    assert best.spec.tune is None
    done = run_recipe(best, again.parent / "artifacts", folds=[0])
    assert done.trained == 2
    assert not done.failures


def test_a_run_blends_its_trials_with_its_members(again):
    found = tune(again)
    done = run_recipe(Recipe.load(again), again.parent / "artifacts")
    assert set(done.new_blend.result.members) == {"cnn", *found.completed}


@pytest.mark.parametrize("what", ["cut", "deleted"])
def test_a_study_is_made_again_from_its_members(again, what):
    before = tune(again)
    path = again.parent / "artifacts" / "search" / "tune" / "study.db"
    if what == "deleted":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:5000])
        with pytest.raises(BrokenStudyError, match="--rebuild"):
            tune(again)
    seen = Noted()
    found = tune(again, rebuild=True, progress=seen)
    assert seen.folds == []
    assert found.to_json()["trials"] == before.to_json()["trials"]
    assert found.best == before.best
    assert (path.parent / "study.broken-1.db").is_file() == (what == "cut")


def test_a_space_with_a_choice_more_begins_with_the_trials_that_fit(again):
    before = tune(again)
    seen = Noted()
    text = again.read_text().replace(
        "model_args.width: [4, 8]", "model_args.width: [4, 8, 12]"
    )
    again.write_text(text)
    found = tune(again, progress=seen)
    assert seen.folds == []
    assert found.study != before.study
    assert [t.trial.member for t in found.trials] == [t.trial.member for t in before.trials]


def test_a_trial_that_was_stopped_is_resumed_where_it_was(again, monkeypatch):
    run = TrialTrainer.run

    def die(self, trial, report):
        run(self, trial, report)
        raise KeyboardInterrupt

    monkeypatch.setattr(TrialTrainer, "run", die)
    with pytest.raises(KeyboardInterrupt):
        tune(again, trials=5)
    monkeypatch.setattr(TrialTrainer, "run", run)
    seen = Noted()
    found = tune(again, trials=5, progress=seen)
    assert ("tune-0004", 0) not in seen.folds
    assert [t.trial.number for t in found.trials] == [0, 1, 2, 3, 4]
    assert found.trials[4].trial.state == "complete"


def test_a_search_without_time_stops_and_leaves_its_trial_for_later(again):
    stop = Stop()
    stop.request("deadline")
    found = tune(again, trials=9, stop=stop)
    assert (found.stopped, len(found.trials)) == ("deadline", 4)


def test_trials_that_fail_are_told_with_their_reason_and_do_not_count(again):
    text = again.read_text().replace("float: [1.0e-3, 1.0e-1]", "float: [1.0e+29, 1.0e+30]")
    again.write_text(text)
    with pytest.raises(
        TrainingError, match=r"no trial was finished.*not finite after epoch 1"
    ):
        tune(again)
    artifacts = again.parent / "artifacts"
    records = [
        r for r in trial_records(RunStore(artifacts / "search")) if r.params["lr"] > 1
    ]
    assert [r.state for r in records] == ["failed"] * 5
    assert all("not finite" in r.reason for r in records)


def test_the_objective_may_be_what_a_trial_adds_to_the_blend(again):
    seen = Noted()
    found = tune(again, "tune.objective=blend", trials=2, progress=seen)
    assert [t.trial.state for t in found.trials] == ["complete"] * 2
    assert found.direction == "minimize"
    values = [t.trial.value for t in found.trials]
    assert all(np.isfinite(values))
    assert max(np.abs(values)) < 1.0


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        (
            "tune.space.lrr=[1, 2]",
            RequestError,
            "tune.space.lrr is not a member option; did you",
        ),
        ("tune.space.opt=[sdg]", RecipeError, "sdg"),
        ("tune.space.epochs={int: [0, 3]}", RecipeError, "tune.space.epochs = 0"),
        ("tune.folds=3", RecipeError, "at most folds.count, 2"),
        ("tune.space.seeds=[1, 2]", RequestError, "would compare other things"),
    ],
)
def test_what_is_wrong_with_a_space_is_said_before_anything_is_trained(
    searched, override, error, message
):
    path, _ = searched
    with pytest.raises(error, match=message):
        tune(path, override)


def test_a_recipe_without_a_search_says_what_one_looks_like(searched):
    path, _ = searched
    recipe = Recipe.load(path)
    without = replace(recipe, spec=recipe.spec.model_copy(update={"tune": None}))
    with pytest.raises(RequestError, match=r"no tune: section; it says what varies"):
        tune_recipe(without, path.parent / "artifacts")


def test_the_record_of_a_trial_says_what_a_study_needs(searched):
    path, found = searched
    store = RunStore(path.parent / "artifacts" / "search")
    records = trial_records(store)
    assert [r.value for r in records] == [t.trial.value for t in found.trials]
    told = json.loads((store.member_folder("tune-0000") / "trial.json").read_text())
    assert told["params"] == found.trials[0].trial.params

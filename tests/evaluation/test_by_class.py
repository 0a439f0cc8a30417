import json

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from ensembler.evaluation.by_class import evaluate_by_class
from ensembler.evaluation.class_tables import class_tables, confusion_tables
from ensembler.predictions.samples import samples_csv, write_samples
from ensembler.predictions.store import RunStore
from ensembler.predictions.testing import write_fake_member, write_fake_run
from ensembler.run import Run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    store = write_fake_run(tmp_path_factory.mktemp("by_class") / "fake")
    Run(store).blend("soft", submit=True)
    return store


def answers(run, name):
    probs = run.blend(name).oof if name in run.blends else run.member(name).oof(CLASSES)
    return run.labels("label", "train"), np.asarray(probs).argmax(axis=1)


CLASSES = ("cat", "dog", "eel")


@pytest.mark.parametrize("name", ["a", "soft"])
def test_figures_of_classes_are_those_of_scikit_learn(run, name):
    result = Run(run).evaluate_by_class()
    y, decided = answers(run, name)
    precision, recall, f1, n = precision_recall_fscore_support(y, decided)
    rows = [row for row in result.rows if (row.name, row.split) == (name, "oof")]
    assert [row.class_name for row in rows] == list(CLASSES)
    assert [row.n for row in rows] == n.tolist()
    np.testing.assert_allclose([row.precision for row in rows], precision)
    np.testing.assert_allclose([row.recall for row in rows], recall)
    np.testing.assert_allclose([row.f1 for row in rows], f1)
    for row in rows:
        assert 0 <= row.low < row.f1 < row.high <= 1
        assert row.precision_low < row.precision < row.precision_high
        assert row.recall_low < row.recall < row.recall_high
    (found,) = (c for c in result.confusions if (c.name, c.split) == (name, "oof"))
    assert found.counts.tolist() == confusion_matrix(y, decided).tolist()


def test_the_most_frequent_errors_come_first(run):
    (found,) = (
        c for c in evaluate_by_class(run).confusions if (c.name, c.split) == ("a", "oof")
    )
    pairs = found.worst_pairs()
    n_errors = found.counts.sum() - np.trace(found.counts)
    assert sum(pair[2] for pair in pairs) == n_errors
    assert [pair[2] for pair in pairs] == sorted([p[2] for p in pairs], reverse=True)
    true, predicted, n, share = pairs[0]
    row = found.counts[CLASSES.index(true)]
    assert (n, share) == (row[CLASSES.index(predicted)], n / row.sum())


def test_a_terminal_shows_the_submitted_blend_or_the_members_named(run):
    tables = class_tables(evaluate_by_class(run), None)
    assert [table.title for table in tables] == [
        "fake: label by class, blend soft, out of fold",
        "fake: label by class, blend soft, holdout",
    ]
    named = class_tables(evaluate_by_class(run, members=["b"]), ["b"])
    assert [table.title.split(", ")[1] for table in named] == ["b", "b"]
    matrix, _ = confusion_tables(evaluate_by_class(run), None)
    assert matrix.columns == ("true \\ predicted", *CLASSES)


def test_of_many_classes_the_most_frequent_errors_are_shown(tmp_path):
    classes = [f"k{i}" for i in range(13)]
    store = write_fake_run(tmp_path / "many", classes=classes, n_train=130, folds=2)
    table, _ = confusion_tables(evaluate_by_class(store), None)
    assert table.columns == ("true class", "taken for", "rows", "of the class")
    assert len(table.rows) == 20


def test_intervals_are_those_of_groups_when_a_run_has_any(tmp_path):
    plain = write_fake_run(tmp_path / "plain", {"a": 1.0}, n_train=300, labelled_test=False)
    grouped = write_fake_run(
        tmp_path / "grouped", {"a": 1.0}, n_train=300, labelled_test=False
    )
    table = grouped.samples.table
    table["group"] = [f"g{f}-{i % 4}" for i, f in enumerate(table["fold"])]
    write_samples(grouped.samples_path, table)
    record = grouped.folder / "members" / "a" / "member.json"
    content = json.loads(record.read_text())
    content["sha256"].pop("samples.csv")
    record.write_text(json.dumps(content))
    grouped = RunStore(grouped.folder)
    assert samples_csv(grouped.samples.table) == grouped.samples_path.read_bytes()
    wide, narrow = evaluate_by_class(grouped), evaluate_by_class(plain)
    assert (wide.groups, narrow.groups) == (True, False)
    assert [row.f1 for row in wide.rows] == [row.f1 for row in narrow.rows]
    assert sum(r.high - r.low for r in wide.rows) > sum(r.high - r.low for r in narrow.rows)


def test_of_several_labels_each_is_counted_and_there_is_no_matrix(tmp_path):
    store = write_fake_run(tmp_path / "sets", n_train=40, n_test=4, labelled_test=False)
    rng = np.random.default_rng(0)
    table = store.samples.table
    given = rng.random((40, 2)) < 0.5
    cells = ["|".join(np.array(["in", "out"])[row]) or "|" for row in given]
    table["label"] = [*cells, *[None] * 4]
    write_samples(store.samples_path, table)
    logits = (rng.normal(size=(40, 2)) + 2 * given - 1).astype(np.float32)
    for name in ("a", "b"):
        (store.folder / "members" / name / "member.json").unlink()
    classes = ("in", "out")
    test = np.zeros((3, 1, 4, 2), np.float32)
    write_fake_member(store.folder, "sets", logits[None], test, classes)
    record = store.folder / "members" / "sets" / "member.json"
    content = json.loads(record.read_text()) | {"multi_label": ["label"]}
    record.write_text(json.dumps(content))
    result = evaluate_by_class(RunStore(store.folder))
    assert (result.confusions, result.without_matrix) == ((), ("label",))
    hits = ((logits >= 0) & given).sum(axis=0)
    expected = 2 * hits / ((logits >= 0).sum(axis=0) + given.sum(axis=0))
    np.testing.assert_allclose([row.f1 for row in result.rows], expected)
    assert [row.n for row in result.rows] == given.sum(axis=0).tolist()


def test_the_command_answers_for_scripts_and_people(ens_here, tmp_path):
    write_fake_run(tmp_path / "artifacts" / "fake", n_train=90)
    answer = json.loads(
        ens_here("evaluate", "fake", "--per", "class", "--confusion", "--json").stdout
    )
    assert {row["name"] for row in answer["per_class"]} == {"a", "b"}
    assert {row["split"] for row in answer["per_class"]} == {"oof"}
    assert sum(row["n"] for row in answer["per_class"] if row["name"] == "a") == 90
    first = answer["confusion"][0]
    assert np.sum(first["counts"]) == 90
    assert first["classes"] == list(CLASSES)
    assert {row["split"] for row in answer["confusion_holdout"]} == {"holdout"}
    assert "per_class" not in json.loads(
        ens_here("evaluate", "fake", "--confusion", "--json").stdout
    )
    shown = ens_here("evaluate", "fake", "--per", "class").stdout
    assert "label by class" in shown
    assert "confused" not in shown
    assert "confused" in ens_here("evaluate", "fake", "--confusion").stdout


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--per", "clas"], "did you mean 'class'?"),
        (["--per", "class", "--by-view"], "leave out --by-view"),
        (["--confusion", "--per", "group"], "leave out --per group"),
    ],
)
def test_what_does_not_go_together_is_refused(ens_here, tmp_path, options, reason):
    write_fake_run(tmp_path / "artifacts" / "fake")
    assert reason in ens_here("evaluate", "fake", *options, expect=2).stderr

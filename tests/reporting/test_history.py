"""Every submission is listed, with honest and public scores."""

import json

import pytest

from ensembler.blends.submit import submission_spec, submit_blend, submit_run
from ensembler.errors import RequestError, StoreError
from ensembler.reporting.history import run_history, set_public_score
from ensembler.reporting.kept import keep_files, read_kept
from ensembler.run import Run


@pytest.fixture
def run(fake_run):
    """A run with two blends, of which `one` was submitted first and `two` last."""
    run = Run(fake_run)
    run.blend("soft", name="one", members=["a", "b"])
    run.blend("weights", name="two", weights={"b": 1.0}, members=["b"])
    for name in ("one", "two"):
        submit_blend(run.store, name, submission_spec(run.store), by_hand=True)
    return run


def listed(store):
    return run_history(store).to_json()["versions"]


def test_versions_are_listed_with_what_they_are_made_of(run):
    first, second = listed(run.store)
    assert [first["n"], second["n"]] == [1, 2]
    assert [first["current"], second["current"]] == [False, True]
    assert first["blend"] == "one"
    assert first["members"] == ["a", "b"]
    assert second["members"] == ["b"]
    assert first["rows"] == len(run.store.samples.test)
    assert first["low"] < first["score"] < first["high"]
    assert (
        first["score"] == run.store.blend("one").record.scores["cross_fitted"]["log_loss"]
    )
    assert first["time"].endswith("+00:00")


def test_the_same_submission_twice_is_one_version_and_another_place_one_more(run):
    submit_blend(run.store, "two", submission_spec(run.store), by_hand=True)
    assert len(listed(run.store)) == 2
    out = run.store.folder / "elsewhere.csv"
    submit_run(run.store, "one", out=out)
    submit_run(run.store, "one", out=out)
    assert [version["file"] for version in listed(run.store)] == [None, None, str(out)]
    # what lies elsewhere is not the run's submission
    assert [version["current"] for version in listed(run.store)] == [False, True, False]
    submit_blend(run.store, "two", submission_spec(run.store), by_hand=True)
    assert len(listed(run.store)) == 3


def test_a_public_score_is_noted_for_all_versions_of_the_same_file(run):
    submit_blend(run.store, "one", submission_spec(run.store), by_hand=True)
    set_public_score(run.store, 1, 0.8)
    assert [version["public"] for version in listed(run.store)] == [0.8, None, 0.8]
    submit_run(run.store, "one", out=run.store.folder / "again.csv")
    assert listed(run.store)[-1]["public"] == 0.8
    set_public_score(run.store, 3, None)
    assert {version["public"] for version in listed(run.store)} == {None}


def test_agreement_counts_each_file_once_and_in_one_metric(run):
    assert run_history(run.store).agreement is None
    submit_run(run.store, "one", out=run.store.folder / "again.csv")
    set_public_score(run.store, 1, 0.9)
    set_public_score(run.store, 2, 0.7, "accuracy")
    found = run_history(run.store).agreement
    assert found.n == 1
    set_public_score(run.store, 1, 0.6, "accuracy")
    found = run_history(run.store).agreement
    assert (found.n, found.metric) == (2, "accuracy")
    ours = [
        run.store.blend(name).record.scores["cross_fitted"]["accuracy"]
        for name in ("one", "two")
    ]
    assert found.difference == pytest.approx((0.6 + 0.7 - sum(ours)) / 2)


@pytest.mark.parametrize(
    ("n", "value"), [(0, 0.5), (3, 0.5), (-1, 0.5), (1, float("nan")), (1, float("inf"))]
)
def test_a_public_score_of_no_version_or_no_number_is_refused(run, n, value):
    before = listed(run.store)
    with pytest.raises(RequestError):
        set_public_score(run.store, n, value)
    assert listed(run.store) == before


def test_versions_of_an_earlier_ens_are_listed_too(run):
    path = run.store.folder / "submission.json"
    content = json.loads(path.read_text())
    known = ("sha256", "rows", "made_of", "by_hand", "options")
    content["versions"] = [
        {key: version[key] for key in known if key in version}
        for version in content["versions"]
    ]
    path.write_text(json.dumps(content))
    first, second = listed(run.store)
    assert first["time"] is None
    assert first["low"] is None
    assert (
        first["score"] == run.store.blend("one").record.scores["cross_fitted"]["log_loss"]
    )
    assert second["current"]
    set_public_score(run.store, 2, 0.5)
    assert listed(run.store)[1]["public"] == 0.5


def test_the_table_shows_every_version(run):
    set_public_score(run.store, 1, 0.81)
    (table,) = run_history(run.store).tables()
    assert [row[0] for row in table.rows] == ["1", "2"]
    assert table.rows[1][-1] == "*"
    assert any("fewer than three" in note for note in table.notes)


def test_what_is_kept_is_there_once_and_an_altered_file_is_named(fake_run):
    files = {"submission.csv": b"id\n1\n", "blends/a/blend.json": b"{}"}
    kept = keep_files(fake_run, files)
    assert keep_files(fake_run, {"submission.csv": b"id\n1\n"}).items() <= kept.items()
    assert len(list((fake_run.folder / "history").iterdir())) == 2
    assert read_kept(fake_run, kept["submission.csv"]) == b"id\n1\n"
    for name in kept.values():
        (fake_run.folder / "history" / name).write_bytes(b"x")
        with pytest.raises(StoreError, match=name):
            read_kept(fake_run, name)
        (fake_run.folder / "history" / name).unlink()
        with pytest.raises(StoreError, match=name):
            read_kept(fake_run, name)

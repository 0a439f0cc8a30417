"""A fold that is trained again has the same logits, or what differs is said."""

import json

import pytest

from ensembler.errors import ChangedRecipeError, UnknownNameError
from ensembler.pipeline.reproduce import FOLDER, reproduce
from ensembler.predictions.members import MEMBER_RECORD
from ensembler.predictions.store import RunStore

pytestmark = pytest.mark.slow


@pytest.fixture
def store(finished):
    return RunStore(finished.parent / "artifacts" / "shapes")


def edit_record(store, name, change):
    path = store.member_folder(name) / MEMBER_RECORD
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def test_folds_are_the_same_bit_for_bit_and_nothing_is_left(store):
    before = {p: p.stat().st_mtime_ns for p in store.folder.rglob("*") if p.is_file()}
    found = reproduce(store, folds=[1])
    assert [(fold.member, fold.fold) for fold in found.folds] == [
        ("narrow", 1),
        ("wide", 1),
    ]
    assert found.verdict == "identical"
    assert found.is_exact
    assert found.differences == {}
    assert before == {
        p: p.stat().st_mtime_ns for p in store.folder.rglob("*") if p.is_file()
    }
    assert not (store.folder.parent / FOLDER).exists()
    whole = reproduce(store, members=["wide"])
    assert [fold.verdict for fold in whole.folds] == ["identical"] * 3


def test_other_logits_are_different_or_close_where_something_else_computed_them(store):
    from ensembler.files import sha256_of
    from ensembler.predictions.arrays import write_array

    path = store.member_folder("wide") / "oof.npy"
    write_array(path, store.member("wide").oof_logits + 0.001)
    edit_record(store, "wide", lambda r: r["sha256"].update({"oof.npy": sha256_of(path)}))
    found = reproduce(store, members=["wide"], folds=[0])
    assert found.verdict == "different"
    assert found.folds[0].difference.max_difference == pytest.approx(0.001, rel=0.01)

    def with_other_threads(record):
        record["environments"] = [{**e, "threads": 99} for e in record["environments"]]

    edit_record(store, "wide", with_other_threads)
    found = reproduce(store, members=["wide"], folds=[0])
    assert found.verdict == "close"
    assert not found.is_exact
    assert found.differences["threads"][0] == 99
    assert "threads 99 then" in found.words


def test_a_member_of_before_says_less_and_is_compared_with_tolerance(store):
    edit_record(store, "wide", lambda r: r.pop("environments"))
    found = reproduce(store, members=["wide"], folds=[0])
    assert found.verdict == "identical"
    assert set(found.differences) == {"threads"}


def test_what_cannot_be_trained_again_is_refused_before_anything_is_trained(
    store, finished, finished_run
):
    moved = store.recipe_path.read_text().replace(str(finished_run), str(finished.parent))
    store.recipe_path.write_text(moved)
    with pytest.raises(UnknownNameError):
        reproduce(store, members=["nosuch"])
    table = finished.parent / "shapes" / "train.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join(lines[:-1]))
    with pytest.raises(ChangedRecipeError):
        reproduce(store)
    assert not (store.folder.parent / FOLDER).exists()

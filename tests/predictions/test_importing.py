import numpy as np
import pandas as pd
import pytest

from ensembler.errors import EnsemblerError, RequestError
from ensembler.logits import softmax
from ensembler.predictions.export import export_predictions
from ensembler.predictions.importing.import_ import (
    MemberFiles,
    find_members,
    import_predictions,
    parse_member,
)
from ensembler.predictions.store import RunStore

CLASSES = ("cat", "dog", "eel")


@pytest.fixture
def files(tmp_path):
    """Labels of 12 train and 5 test rows, and probabilities for them as .npy and as a shuffled CSV."""
    rng = np.random.default_rng(0)
    ids = [f"r{i}" for i in range(12)]
    pd.DataFrame(
        {
            "id": ids,
            "label": [CLASSES[i % 3] for i in range(12)],
            "fold": np.arange(12) // 3 % 2,
        }
    ).to_csv(tmp_path / "labels.csv", index=False)
    pd.DataFrame({"id": [f"t{i}" for i in range(5)]}).to_csv(
        tmp_path / "test.csv", index=False
    )
    probs = softmax(rng.normal(size=(12, 3))).astype(np.float32)
    np.save(tmp_path / "a_oof.npy", probs)
    np.save(tmp_path / "a_test.npy", softmax(rng.normal(size=(2, 5, 3))).astype(np.float32))
    table = pd.DataFrame(probs[:, [2, 0, 1]], columns=["eel", "cat", "dog"]).assign(id=ids)
    table.sample(frac=1, random_state=0).to_csv(tmp_path / "b_oof.csv", index=False)
    return tmp_path


def bring(files, *members, **options):
    options = {"labels": files / "labels.csv", "by_position": True, **options}
    return import_predictions(files / "artifacts" / "run", members, **options)


def npy(files, name="a", test=True):
    return MemberFiles(name, files / "a_oof.npy", files / "a_test.npy" if test else None)


def test_arrays_become_a_run_like_any_other(files):
    result = bring(files, npy(files), test_ids=files / "test.csv")
    store = RunStore(files / "artifacts" / "run")
    member = store.member("a")
    assert np.allclose(member.oof(CLASSES), np.load(files / "a_oof.npy"), atol=1e-6)
    assert np.allclose(member.test(CLASSES), np.load(files / "a_test.npy"), atol=1e-6)
    assert store.samples.test["id"].tolist() == [f"t{i}" for i in range(5)]
    assert "rows of .npy files are matched by position" in result.notes


def test_a_table_is_matched_by_id_and_class_name_in_any_order(files):
    bring(
        files,
        npy(files, test=False),
        MemberFiles("b", files / "b_oof.csv"),
        classes=CLASSES,
    )
    store = RunStore(files / "artifacts" / "run")
    assert np.allclose(
        store.member("a").oof(CLASSES), store.member("b").oof(CLASSES), atol=1e-6
    )


def test_members_join_a_run_that_is_there(files):
    bring(files, npy(files, test=False))
    bring(files, npy(files, "c", test=False), labels=None)
    assert RunStore(files / "artifacts" / "run").complete_members == ["a", "c"]
    save(files, np.load(files / "a_oof.npy")[::-1])
    with pytest.raises(
        RequestError, match="has a member 'a' already, which is another one"
    ):
        bring(files, npy(files, test=False))


def test_logits_and_votes_come_in_too(files):
    np.save(files / "l.npy", np.log(np.load(files / "a_oof.npy")) + 5)
    np.save(files / "v.npy", np.load(files / "a_oof.npy").argmax(1))
    bring(files, npy(files, test=False))
    bring(files, MemberFiles("logits", files / "l.npy"), kind="logits")
    bring(files, MemberFiles("votes", files / "v.npy"), kind="labels")
    store = RunStore(files / "artifacts" / "run")
    assert np.allclose(
        store.member("logits").oof(CLASSES), store.member("a").oof(CLASSES), atol=1e-5
    )
    assert store.member("votes").oof(CLASSES).max(axis=1).tolist() == [1.0] * 12


def test_rounded_probabilities_are_renormalised_with_a_note(files):
    np.save(
        files / "a_oof.npy",
        np.load(files / "a_oof.npy").astype(np.float16) * np.float16(0.99),
    )
    result = bring(files, npy(files, test=False))
    assert "they were renormalised" in result.notes[-1]
    assert np.allclose(
        RunStore(files / "artifacts" / "run").member("a").oof(CLASSES).sum(axis=1), 1
    )


def test_rows_that_are_missing_need_the_option_and_stay_missing(files):
    table = pd.read_csv(files / "b_oof.csv")
    table[table["id"] != "r3"].to_csv(files / "b_oof.csv", index=False)
    b = MemberFiles("b", files / "b_oof.csv")
    with pytest.raises(
        RequestError, match=r"lacks 1 of the 12 ids .* such as 'r3'; --partial"
    ):
        bring(files, b)
    bring(files, b, partial=True)
    assert np.isnan(RunStore(files / "artifacts" / "run").member("b").oof(CLASSES)[3]).all()


def test_labels_may_be_indices_and_labelled_test_rows_are_the_holdout(files):
    labels = pd.read_csv(files / "labels.csv")
    labels.assign(label=labels["label"].map(CLASSES.index)).to_csv(
        files / "labels.csv", index=False
    )
    pd.DataFrame({"id": [f"t{i}" for i in range(5)], "label": [0, 1, 2, 0, 1]}).to_csv(
        files / "tl.csv", index=False
    )
    bring(files, npy(files), classes=CLASSES, test_labels=files / "tl.csv")
    store = RunStore(files / "artifacts" / "run")
    assert store.samples.train["label"].tolist()[:3] == list(CLASSES)
    assert store.labels("label", "test", CLASSES).tolist() == [0, 1, 2, 0, 1]


def test_groups_that_lie_in_several_folds_are_refused_before_anything_is_written(files):
    table = pd.read_csv(files / "labels.csv").assign(group="one")
    table.to_csv(files / "grouped.csv", index=False)
    with pytest.raises(RequestError, match="group 'one' is in several folds"):
        bring(files, npy(files, test=False), labels=files / "grouped.csv")
    assert not (files / "artifacts" / "run").exists()
    table.drop(columns="fold").to_csv(files / "grouped.csv", index=False)
    bring(files, npy(files, test=False), labels=files / "grouped.csv")
    assert RunStore(files / "artifacts" / "run").samples.groups() is not None


def test_a_folder_of_files_comes_in_at_once(files):
    found = find_members(files, "{name}_oof.npy", "{name}_test.npy")
    assert [(m.name, m.test is not None) for m in found] == [("a", True)]
    with pytest.raises(RequestError, match="no file that fits"):
        find_members(files, "{name}_x.npy", None)


def save(files, array):
    np.save(files / "a_oof.npy", array, allow_pickle=True)


@pytest.mark.parametrize(
    ("spoil", "options", "message"),
    [
        (lambda f: save(f, np.load(f / "a_oof.npy") * 9), {}, "outside 0..1; say --kind logits"),
        (lambda f: save(f, np.load(f / "a_oof.npy") - 0.1), {}, "outside 0..1; say --kind logits"),
        (lambda f: save(f, np.load(f / "a_oof.npy") / 2), {}, "sums to 0.500, "
                                                              "probabilities sum to 1"),
        (lambda f: save(f, np.full((12, 3), np.nan)), {}, "holds NaN or infinity, first in row 0"),
        (lambda f: save(f, np.full((12, 4), 0.25)), {}, "has 4 classes, the labels have 3"),
        (lambda f: save(f, np.full((11, 3), 1 / 3)), {}, r"has 11 rows, .* has 12; are the files"),
        (lambda f: save(f, np.full(12, 0.3)), {}, r"has shape \[12\], expected \[rows, classes\]"),
        (lambda f: save(f, np.array([{}] * 12, dtype=object)), {}, "needs pickle, which "
                                                                   "can run code"),
        (lambda _: None, {"by_position": False}, "carries no ids; --by-position"),
        (lambda _: None, {"labels": None}, "is a new run: name its rows with --labels"),
        (lambda f: (f / "labels.csv").write_text("id,label\na,x\na,y\n"), {}, "duplicate id 'a' in"),
        (lambda f: (f / "labels.csv").write_text("id,lable\na,x\n"), {}, "has no column 'label'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_one_clear_error_and_nothing_is_written(
    files, spoil, options, message
):
    spoil(files)
    with pytest.raises(EnsemblerError, match=message):
        bring(files, npy(files, test=False), **options)
    assert not (files / "artifacts").exists()


def test_a_member_is_named_with_its_files():
    assert parse_member("a=x.npy,y.npy").test is not None
    for text in ("a", "=x.npy", "a=x,y,z", "a="):
        with pytest.raises(RequestError, match="expected NAME=OOF"):
            parse_member(text)


@pytest.mark.parametrize("format", ["csv", "npy", "parquet"])
def test_what_goes_out_comes_in_again(files, format):
    bring(files, npy(files), test_ids=files / "test.csv")
    store = RunStore(files / "artifacts" / "run")
    done = export_predictions(store, files / "out", member="a", format=format)
    assert [p.name for p in done.files] == [f"a_oof.{format}", f"a_test.{format}"]
    bring(files, MemberFiles("again", *done.files), labels=None)
    again = RunStore(store.folder).member("again")
    assert np.allclose(again.oof(CLASSES), store.member("a").oof(CLASSES), atol=1e-6)
    with pytest.raises(RequestError, match="name one of --member and --blend"):
        export_predictions(store, files)


def labelled(files, labels, classes=None):
    """Import one hot predictions of `labels` by position, with a holdout; the run."""
    names = sorted(set(labels)) if classes is None else classes
    pd.DataFrame({"id": [f"r{i}" for i in range(len(labels))], "label": labels}).to_csv(
        files / "l.csv", index=False
    )
    np.save(
        files / "p.npy",
        np.eye(len(names), dtype=np.float32)[[names.index(label) for label in labels]],
    )
    bring(files, MemberFiles("p", files / "p.npy"), labels=files / "l.csv")
    return RunStore(files / "artifacts" / "run")


@pytest.mark.parametrize(
    "labels", [["00", "01", "02"], ["01", "02", "10"], ["1", "01", "2"]]
)
def test_labels_with_zeros_in_front_keep_their_names(files, labels):
    store = labelled(files, labels * 3, sorted(labels, key=lambda name: (int(name), name)))
    assert store.samples.train["label"].tolist() == labels * 3
    assert set(store.classes("label")) == set(labels)
    assert (
        store.member("p").oof(store.classes("label")).argmax(axis=1)
        == store.labels("label", "train")
    ).all()


def test_a_label_that_is_an_index_with_zeros_in_front_is_no_index(files):
    pd.DataFrame(
        {"id": [f"r{i}" for i in range(12)], "label": ["01", "1", "2", "0"] * 3}
    ).to_csv(files / "l.csv", index=False)
    with pytest.raises(RequestError, match="label '01' is neither a class"):
        bring(files, npy(files, test=False), labels=files / "l.csv", classes=CLASSES)


def test_votes_are_all_names_or_all_indices(files):
    labels = ["1", "2", "3"] * 4
    pd.DataFrame({"id": [f"r{i}" for i in range(12)], "label": labels}).to_csv(
        files / "l.csv", index=False
    )
    np.save(files / "v.npy", np.array([0, 1, 2] * 4))
    bring(files, MemberFiles("v", files / "v.npy"), labels=files / "l.csv", kind="labels")
    store = RunStore(files / "artifacts" / "run")
    assert (
        store.member("v").oof(("1", "2", "3")).argmax(axis=1) == np.array([0, 1, 2] * 4)
    ).all()


def test_a_note_says_the_order_of_columns_that_was_taken(files):
    labels = ["c1", "c2", "c10"]
    store = labelled(files, labels * 3)
    assert store.classes("label") == (
        "c1",
        "c10",
        "c2",
    )  # as numpy.unique has them, which other tools go by
    numbers = ["9.5", "10.5", "-1"]
    pd.DataFrame({"id": ["a", "b", "c"], "label": numbers}).to_csv(
        files / "l.csv", index=False
    )
    np.save(files / "p.npy", np.eye(3, dtype=np.float32))
    done = import_predictions(
        files / "artifacts" / "other",
        [MemberFiles("p", files / "p.npy")], labels=files / "l.csv", by_position=True,
    )  # fmt: skip
    assert done.classes == ("-1", "9.5", "10.5")


def test_labels_that_mix_names_and_indices_are_refused(tmp_path):
    pd.DataFrame({"id": ["a", "b"], "label": ["cat", "dog"]}).to_csv(
        tmp_path / "labels.csv", index=False
    )
    pd.DataFrame({"id": ["a", "b"], "label": ["cat", "1"]}).to_csv(
        tmp_path / "votes.csv", index=False
    )
    with pytest.raises(RequestError, match="has both names, such as 'cat', and indices"):
        import_predictions(
            tmp_path / "run",
            [MemberFiles("votes", tmp_path / "votes.csv")],
            labels=tmp_path / "labels.csv",
            kind="labels",
        )


def test_an_array_that_claims_more_than_the_container_has_is_refused(tmp_path, monkeypatch):
    from ensembler.predictions.importing import files

    np.save(tmp_path / "oof.npy", np.zeros((10, 3)))
    monkeypatch.setattr(files, "machine_memory", lambda: 100)
    with pytest.raises(RequestError, match=r"its header claims an array of \[10, 3\]"):
        files.read_array(tmp_path / "oof.npy")

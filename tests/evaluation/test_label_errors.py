"""Which labels are wrong, on invented predictions whose truth is known."""

import shutil

import numpy as np
import pandas as pd
import pytest

from ensembler.blending.pool import Pool
from ensembler.blends.pool import read_pool
from ensembler.errors import MissingFileError, UnknownNameError
from ensembler.evaluation.label_errors import (
    Judged,
    LabelErrors,
    Rows,
    Suspect,
    find_label_errors,
)
from ensembler.evaluation.label_noise import (
    WrongRows,
    count_confident,
    fit_noise,
    with_copies,
)
from ensembler.logits import softmax
from ensembler.predictions.samples import write_samples
from ensembler.predictions.store import RunStore
from ensembler.predictions.testing import write_fake_member, write_fake_run
from ensembler.progress import QUIET
from ensembler.targets.composition import Composition

CLASSES = ("ant", "bee", "cow", "dog")


def blurred(truth, rng, strength=3.0, n_classes=4):
    logits = rng.normal(size=(len(truth), n_classes))
    logits[np.arange(len(truth)), truth] += strength
    return softmax(logits)


def made_wrong(truth, rate, rng, n_classes=4):
    given = truth.copy()
    rows = rng.choice(len(truth), round(rate * len(truth)), replace=False)
    given[rows] = (truth[rows] + rng.integers(1, n_classes, len(rows))) % n_classes
    return given


def relabelled(store, rate, seed=0):
    """The run with a share of its train labels made wrong, and the ids of those rows."""
    rng = np.random.default_rng(seed)
    table = store.samples.table
    is_train = (table["split"] == "train").to_numpy()
    truth = np.array([CLASSES.index(name) for name in table["label"][is_train]])
    given = made_wrong(truth, rate, rng)
    changed = table.copy()
    changed.loc[is_train, "label"] = [CLASSES[i] for i in given]
    return changed, set(table["id"][is_train][given != truth])


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    """A run of three members with 5 % wrong labels, and the ids of the wrong rows."""
    folder = tmp_path_factory.mktemp("labels") / "run"
    strengths = {"a": 3.0, "b": 2.5, "c": 2.0}
    store = write_fake_run(folder, strengths, n_train=800, classes=CLASSES)
    table, wrong = relabelled(store, 0.05)
    write_samples(folder / "samples.csv", table)
    resealed(folder)
    return RunStore(folder), wrong


@pytest.fixture(scope="module")
def found(noisy):
    return find_label_errors(noisy[0])


def resealed(folder):
    """Let the members' records know the changed samples.csv."""
    from ensembler.files import sha256_of
    from ensembler.predictions.members import MEMBER_RECORD, MemberRecord
    from ensembler.predictions.records import read_record, write_record

    for path in folder.glob(f"members/*/{MEMBER_RECORD}"):
        record = read_record(path, MemberRecord)
        sums = {**record.sha256, "samples.csv": sha256_of(folder / "samples.csv")}
        write_record(path, record.model_copy(update={"sha256": sums}))


def test_wrong_labels_are_ranked_first_and_counted(noisy, found):
    wrong = noisy[1]
    first = [suspect.id for suspect in found.labels[: len(wrong)]]
    assert np.mean([name in wrong for name in first]) > 0.8
    assert found.wrong.low <= len(wrong) <= found.wrong.high
    assert len(found.labels) >= 2 * found.wrong.expected
    assert [suspect.rank for suspect in found.labels] == list(
        range(1, len(found.labels) + 1)
    )
    confidences = [suspect.confidence for suspect in found.labels]
    assert confidences == sorted(confidences, reverse=True)


def test_a_suggestion_is_another_class_and_mostly_the_true_one(noisy, found):
    store, wrong = noisy
    truth = dict(answers(store))
    caught = [suspect for suspect in found.labels if suspect.id in wrong]
    assert all(suspect.suggested != suspect.given for suspect in caught)
    assert np.mean([suspect.suggested == truth[suspect.id] for suspect in caught]) > 0.8


def answers(store):
    """Ids of the train rows and the answer of the members' mean."""
    rows = store.samples.train["id"]
    probs = np.mean(
        [m.oof(CLASSES, "mean", None) for m in store.members_of("label")], axis=0
    )
    return zip(rows, [CLASSES[i] for i in probs.argmax(axis=1)], strict=True)


def test_clean_labels_are_not_called_wrong(tmp_path):
    store = write_fake_run(tmp_path / "run", {"a": 6.0, "b": 6.0}, n_train=300)
    found = find_label_errors(store)
    assert found.wrong.expected < 2
    assert found.wrong.low < 1


def test_the_answer_is_the_same_whatever_the_order_of_members(noisy, found):
    other = find_label_errors(noisy[0], ["c", "a", "b"])
    assert [s.id for s in found.labels[:30]] == [s.id for s in other.labels[:30]]
    assert found.wrong.expected == pytest.approx(other.wrong.expected, rel=1e-3)


def test_a_leaked_member_has_no_say(noisy, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(noisy[0].folder, folder)
    rng, store = np.random.default_rng(1), RunStore(folder)
    given = [CLASSES.index(name) for name in store.samples.train["label"]]
    test = store.member("a").test(CLASSES, "mean", None)
    seen = np.log(blurred(np.array(given), rng, 9.0))[None].astype(np.float32)
    of_test = np.log(test)[:, None].astype(np.float32)
    write_fake_member(folder, "seen", seen, of_test, CLASSES)
    found = find_label_errors(RunStore(folder))
    assert found.members == ("a", "b", "c")
    assert "'seen'" in found.warnings[0]


def test_copies_with_other_labels_are_suspects(noisy):
    store, wrong = noisy
    ids = store.samples.train["id"].tolist()
    labels = store.samples.train["label"].tolist()
    right = [i for i in range(len(ids)) if ids[i] not in wrong]
    first = right[0]
    other = next(i for i in right if labels[i] != labels[first])
    found = find_label_errors(store, copies=[(ids[first], ids[other])])
    said = {s.id: s for s in found.labels}
    suspect = max(
        (said[i] for i in (ids[first], ids[other]) if i in said), key=lambda s: s.confidence
    )
    assert suspect.confidence > 0.4
    assert suspect.copies


def test_corrections_are_a_csv_of_the_suspects(found, tmp_path):
    (tmp_path / "fixes.csv").write_bytes(found.corrections())
    table = pd.read_csv(tmp_path / "fixes.csv", dtype={"id": str})
    assert list(table) == ["id", "given", "suggested", "confidence"]
    assert table["id"].tolist() == [suspect.id for suspect in found.labels]


def test_groups_speak_where_their_rows_share_a_label(tmp_path):
    folder = tmp_path / "run"
    store = write_fake_run(
        folder, {"a": 1.0, "b": 1.0}, n_train=600, classes=CLASSES, folds=2
    )
    table = store.samples.table.copy()
    truth = table["label"].astype(str)
    is_train = table["split"] == "train"
    # Five rows of one class and fold make a group, such as the pictures of a person.
    key = truth + table["fold"].astype(str)
    number = key.groupby(key).cumcount() // 5
    table["group"] = np.where(is_train, key + "-" + number.astype(str), table["id"])
    wrong = table.index[is_train][::40]
    table.loc[wrong, "label"] = [CLASSES[(CLASSES.index(x) + 1) % 4] for x in truth[wrong]]
    write_samples(folder / "samples.csv", table)
    resealed(folder)
    found = find_label_errors(RunStore(folder))
    first = {suspect.id for suspect in found.labels[: len(wrong)]}
    assert len(first & set(table.loc[wrong, "id"])) > 0.8 * len(wrong)
    assert found.labels[0].group_agreement == 1.0


def test_what_is_not_there_is_said(tmp_path):
    store = write_fake_run(tmp_path / "run", n_train=60)
    with pytest.raises(UnknownNameError, match="target 'colour'"):
        find_label_errors(store, target="colour")
    (tmp_path / "run" / "members" / "a" / "member.json").unlink()
    (tmp_path / "run" / "members" / "b" / "member.json").unlink()
    with pytest.raises(MissingFileError, match="no complete member"):
        find_label_errors(RunStore(tmp_path / "run"))


def test_the_noise_model_finds_rates_of_pairs_that_are_mixed_up():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 4000)
    given = truth.copy()
    mixed = (truth == 0) & (rng.random(len(truth)) < 0.2)
    given[mixed] = 1
    noise = fit_noise(blurred(truth, rng, 5.0), given)
    assert noise.rates[0, 1] == pytest.approx(0.2, abs=0.05)
    assert noise.rates[2, 3] < 0.02
    assert noise.expected == pytest.approx(mixed.sum(), rel=0.2)


def test_confident_learning_equals_a_count_by_hand():
    probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7]])
    given = np.array([0, 0, 0, 1, 1])
    # thresholds: class 0 (0.9 + 0.8 + 0.1) / 3 = 0.6, class 1 (0.8 + 0.7) / 2 = 0.75
    found = count_confident(probs, given)
    assert found.flagged.tolist() == [False, False, True, False, False]
    np.testing.assert_allclose(found.joint, [[2, 1], [0, 2]])
    assert found.wrong == pytest.approx(1)


def test_three_copies_outvote_one():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 600)
    given = made_wrong(truth, 0.05, rng, 3)
    probs = blurred(truth, rng, 3.0, 3)
    given[:4] = [0, 0, 0, 1]
    probs[:4] = [0.4, 0.4, 0.2]
    noise = with_copies(fit_noise(probs, given), probs, [(0, 1, 2, 3)])
    assert noise.wrong[3] > 0.9 > 0.1 > noise.wrong[0]


def test_one_member_may_judge_alone(noisy):
    store, wrong = noisy
    found = find_label_errors(store, ["a"])
    first = [suspect.id for suspect in found.labels[: len(wrong)]]
    assert np.mean([name in wrong for name in first]) > 0.5


def test_corrections_of_a_composed_class_name_its_tasks():
    composed = Composition.build("label", {"mask": ("on", "off"), "age": ("old", "young")})
    suspect = Suspect("s1", "on-old", "off-old", 0.9, 1, 1.0)
    found = LabelErrors(
        run="r",
        target="label",
        n=1,
        members=("a",),
        labels=(suspect,),
        wrong=WrongRows(1.0, 0.0, 1.0),
        first_target="age",
        composition=composed,
    )
    lines = found.corrections().decode().splitlines()
    assert lines == ["id,given,suggested,confidence,target", "s1,on,off,0.9,mask"]


def test_of_several_labels_at_once_the_wrong_one_is_taken_out():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, (400, 3))
    given = truth.copy()
    given[:20, 1] = 1 - given[:20, 1]
    members = [
        1 / (1 + np.exp(-(6 * truth - 3 + rng.normal(size=truth.shape)))) for _ in "ab"
    ]
    pool = Pool(("a", "b"), np.stack(members), given, ("x", "y", "z"), np.zeros(400, int))
    judged = Judged.of(Rows(tuple(f"s{i:03d}" for i in range(400)), pool), QUIET)
    first = judged.suspects()[:20]
    assert len({s.id for s in first} & {f"s{i:03d}" for i in range(20)}) > 16
    assert judged.wrong.expected == pytest.approx(20, abs=6)
    (one,) = [s for s in first if s.id == first[0].id]
    changed = set(one.given.split("|")) ^ set(one.suggested.split("|"))
    assert changed - {""} == {"y"}


def test_confidences_add_up_to_what_is_expected(noisy, found):
    read = read_pool(noisy[0], None, common_rows=True).pool
    judged = Judged.of(Rows(tuple(map(str, range(len(read.y)))), read), QUIET)
    assert judged.noise.wrong.sum() == pytest.approx(judged.wrong.expected, rel=1e-6)
    assert judged.wrong.expected == pytest.approx(found.wrong.expected, rel=1e-6)


def test_weak_members_are_warned_of(tmp_path):
    store = write_fake_run(tmp_path / "run", {"a": 0.2, "b": 0.2}, n_train=240)
    (warning,) = find_label_errors(store).warnings
    assert "their own mistakes" in warning
    strong = write_fake_run(tmp_path / "strong", {"a": 4.0, "b": 4.0}, n_train=240)
    assert not any("mistakes" in text for text in find_label_errors(strong).warnings)

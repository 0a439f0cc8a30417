"""A tracker mirrors a run; whatever it does, the run goes on and nothing is told twice."""

import json
import time

import pytest

from ensembler.blending.spec import BlendSpec
from ensembler.blends.blend import blend_run
from ensembler.errors import UnknownNameError
from ensembler.predictions.store import RunStore
from ensembler.predictions.testing import write_fake_run
from ensembler.progress import Epoch, RecordedProgress
from ensembler.sharing.trackers import live, mirror
from ensembler.sharing.trackers.facts import member_facts, run_facts
from ensembler.sharing.trackers.live import tracked
from ensembler.sharing.trackers.mirror import mirror_in_time, mirror_run
from ensembler.sharing.trackers.tracker import TRACKERS, TrackerError

EPOCH = Epoch("a", 0, 1, 3, 0.5, 0.8, 1.0)


class FakeTracker:
    """Keeps what it is told; raises when `fails` says so."""

    def __init__(self):
        self.epochs, self.members, self.runs, self.fails = [], [], [], lambda: False

    def _take(self, where, what):
        if self.fails():
            raise ConnectionError("no network\nand much more")
        where.append(what)

    def epoch(self, epoch):
        self._take(self.epochs, epoch)

    def member(self, member):
        self._take(self.members, member)

    def run(self, run):
        self._take(self.runs, run)

    def close(self):
        pass


@pytest.fixture
def tracker(monkeypatch):
    made = FakeTracker()
    for module in (live, mirror):
        monkeypatch.setattr(module, "open_tracker", lambda *_: made)
    return made


@pytest.fixture
def store(tmp_path):
    return write_fake_run(tmp_path / "artifacts" / "fake", n_train=30, n_test=6)


def test_what_a_tracker_was_told_is_not_told_again(store, tracker):
    assert mirror_run(store, "mlflow").members == ("a", "b")
    again = mirror_run(store, "mlflow")
    assert (again.members, again.already) == ((), ("a", "b"))
    assert [len(tracker.members), len(tracker.runs)] == [2, 1]
    blend_run(store, BlendSpec(method="soft"))
    mirror_run(RunStore(store.folder), "mlflow")
    assert [len(tracker.members), len(tracker.runs)] == [2, 2]


def test_what_a_tracker_did_not_take_is_told_the_next_time(store, tracker):
    tracker.fails = lambda: len(tracker.members) == 1
    with pytest.raises(TrackerError, match=r"mlflow did not take run 'fake': no network;"):
        mirror_run(store, "mlflow")
    tracker.fails = lambda: False
    assert mirror_run(store, "mlflow").members == ("b",)
    assert [member.name for member in tracker.members] == ["a", "b"]


def test_a_tracker_that_fails_or_hangs_is_a_warning(store, tracker, monkeypatch):
    progress = RecordedProgress()
    tracker.fails = lambda: True
    mirror_in_time(store, ["mlflow"], progress)
    assert "no network" in progress.warnings[0]
    monkeypatch.setattr(mirror, "PATIENCE", 0.05)
    tracker.fails = lambda: time.sleep(1)
    mirror_in_time(store, ["wandb"], progress)
    assert "wandb did not answer" in progress.warnings[1]


def test_epochs_are_told_while_a_run_goes_on(store, tracker):
    progress = RecordedProgress()
    with tracked(store, ["mlflow"], progress) as told:
        told.epoch(EPOCH)
        told.note("a note")
    assert tracker.epochs == progress.epochs == [EPOCH]
    assert progress.notes == ["a note"]


def test_a_tracker_that_fails_while_a_run_goes_on_is_told_no_more(store, tracker):
    progress = RecordedProgress()
    tracker.fails = lambda: True
    with tracked(store, ["mlflow"], progress) as told:
        for _ in range(3):
            told.epoch(EPOCH)
    assert len(progress.epochs) == 3
    assert len(progress.warnings) == 1
    assert "it is told at the end" in progress.warnings[0]


def test_facts_are_numbers_with_intervals_and_classes(store):
    blend_run(store, BlendSpec(method="soft"))
    store = RunStore(store.folder)
    facts = member_facts(store, "a").metrics
    assert facts["oof/log_loss_low"] < facts["oof/log_loss_high"]
    run = run_facts(store)
    value = run.metrics["blend/soft/cross_fitted/log_loss"]
    ends = [
        run.metrics[f"blend/soft/cross_fitted/log_loss_{end}"] for end in ("low", "high")
    ]
    assert ends[0] < value < ends[1]
    assert {row["class"] for row in run.tables["per_class.json"]["per_class"]} == {
        "cat",
        "dog",
        "eel",
    }
    json.dumps(run.tables)


def test_share_to_a_tracker_says_what_is_there(store, tracker, ens_here):
    answer = json.loads(ens_here("share", "fake", "--to", "mlflow", "--json").stdout)
    assert (answer["members"], answer["already"]) == (["a", "b"], [])
    assert "2 members of fake, 0 new" in ens_here("share", "fake", "--to", "mlflow").stdout
    assert (
        "did you mean 'mlflow'"
        in ens_here("share", "fake", "--to", "mlfow", expect=2).stderr
    )
    assert "not both" in ens_here("share", "fake", expect=2).stderr
    with pytest.raises(UnknownNameError):
        TRACKERS.check("nosuch")


def test_the_end_of_a_run_waits_for_what_is_still_told(store, tracker, monkeypatch):
    monkeypatch.setattr(live, "PATIENCE", 0.01)
    tracker.fails = lambda: time.sleep(0.2)
    progress = RecordedProgress()
    with tracked(store, ["mlflow"], progress) as told:
        told.epoch(EPOCH)
        time.sleep(0.05)
    mirror_in_time(store, ["mlflow"], progress)
    assert (len(tracker.epochs), len(tracker.members), progress.warnings) == (1, 2, [])

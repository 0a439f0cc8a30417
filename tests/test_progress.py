import pickle

from ensembler.progress import (
    Epoch,
    FailedMessage,
    FoldCost,
    FoldTask,
    PrefixedProgress,
    Progress,
    ProgressForwarder,
    RecordedProgress,
)

TASK = FoldTask("cnn", 1, FoldCost(3))
EPOCH = Epoch("cnn", 1, 2, 3, 0.5, None, 1.0)


class Everything(Progress):
    """Keeps every call with what it was given."""

    def __init__(self):
        self.calls = []

    def plan(self, tasks, at_once=1):
        self.calls.append(("plan", tasks, at_once))

    def step(self, what, done, total):
        self.calls.append(("step", what, done, total))

    def epoch(self, epoch):
        self.calls.append(("epoch", epoch))

    def fold_done(self, task, text):
        self.calls.append(("fold_done", task, text))

    def failed(self, training):
        self.calls.append(("failed", training))

    def note(self, text):
        self.calls.append(("note", text))

    def warn(self, text):
        self.calls.append(("warn", text))


def tell(progress):
    progress.step("decoding", 3, 9)
    progress.epoch(EPOCH)
    progress.fold_done(TASK, "accuracy 0.9")
    progress.failed("cnn")
    progress.note("a note")
    progress.warn("a warning")


def test_what_is_forwarded_from_another_process_arrives_as_it_was_said():
    here, there = Everything(), Everything()
    tell(there)
    sent = []
    tell(ProgressForwarder(lambda message: sent.append(pickle.dumps(message))))
    for message in sent:
        pickle.loads(message).show(here)
    assert here.calls == there.calls


def test_a_message_shows_itself():
    shown = Everything()
    FailedMessage("cnn").show(shown)
    assert shown.calls == [("failed", "cnn")]


def test_a_prefix_says_what_notes_and_warnings_are_about_and_changes_nothing_else():
    shown = Everything()
    progress = PrefixedProgress(shown, "cnn fold 1")
    progress.note("a note")
    progress.warn("a warning")
    progress.step("decoding", 3, 9)
    progress.epoch(EPOCH)
    assert shown.calls == [
        ("note", "cnn fold 1: a note"),
        ("warn", "cnn fold 1: a warning"),
        ("step", "decoding", 3, 9),
        ("epoch", EPOCH),
    ]


def test_a_recorded_progress_keeps_what_happened():
    progress = RecordedProgress()
    tell(progress)
    assert progress.steps == [("decoding", 3, 9)]
    assert progress.epochs == [EPOCH]
    assert progress.finished == [TASK]
    assert progress.notes == ["a note"]
    assert progress.warnings == ["a warning"]

import pytest

from ensembler.progress import (
    Epoch,
    FoldCost,
    FoldTask,
    PrefixedProgress,
    Progress,
    ProgressForwarder,
    RecordedProgress,
)

TASK = FoldTask("cnn", 1, FoldCost(3))
EPOCH = Epoch("cnn", 1, 2, 3, 0.5, None, 1.0)


class Everything(RecordedProgress):
    """Keeps failures, too."""

    def __init__(self):
        super().__init__()
        self.failures = []

    def failed(self, training):
        self.failures.append(training)


def tell(progress):
    progress.step("decoding", 1, 2)
    progress.epoch(EPOCH)
    progress.fold_done(TASK, "accuracy 0.9")
    progress.failed("vit")
    progress.note("a note")
    progress.warn("a warning")


def heard(progress):
    return {
        name: value for name, value in vars(progress).items() if not name.startswith("_")
    }


def test_what_is_sent_from_another_process_is_shown_as_if_it_happened_here():
    here, there, messages = Everything(), Everything(), []
    tell(here)
    tell(ProgressForwarder(messages.append))
    for message in messages:
        message.show(there)
    assert heard(there) == heard(here)
    assert all(heard(here).values())  # nothing was left out


def test_notes_and_warnings_say_what_they_are_about():
    shown = RecordedProgress()
    tell(PrefixedProgress(shown, "cnn fold 1"))
    assert shown.notes == ["cnn fold 1: a note"]
    assert shown.warnings == ["cnn fold 1: a warning"]
    assert shown.steps == [("decoding", 1, 2)]


@pytest.mark.parametrize("kind", [Progress, RecordedProgress])
def test_nothing_has_to_be_overridden(kind, capsys):
    tell(kind())
    assert capsys.readouterr() == ("", "")

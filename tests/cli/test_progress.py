import io

import pytest
from rich.console import Console

from ensembler.cli import progress
from ensembler.cli.progress import LiveProgress, PlainProgress, Warnings, show_progress
from ensembler.progress import Epoch, FoldCost, FoldTask

TASKS = [FoldTask("cnn", fold, FoldCost(2)) for fold in (0, 1)]


def epoch(fold, number, loss=0.5, score=0.75):
    return Epoch("cnn", fold, number, 2, loss, score, 1.0)


@pytest.fixture
def live():
    """A live display on a terminal of its own."""
    shown = LiveProgress()
    plain = {"highlight": False, "markup": False, "color_system": None}
    shown.console = Console(file=io.StringIO(), force_terminal=True, width=120, **plain)
    shown.bars.live.console = shown.console
    with shown:
        yield shown


def bars(live):
    return {task.description: (task.completed, task.total) for task in live.bars.tasks}


def test_the_bar_over_all_epochs_moves_with_each_of_them(live):
    live.plan(TASKS)
    assert bars(live) == {"training": (0, 4)}
    live.epoch(epoch(0, 1))
    live.epoch(epoch(0, 2))
    assert bars(live) == {"cnn fold 0: epoch 2/2, loss 0.5000, accuracy 0.7500": (2, 4)}


def test_a_later_plan_makes_the_same_bar_longer(live):
    live.plan(TASKS[:1])
    live.plan([FoldTask("vit", 0, FoldCost(3))])
    assert list(bars(live).values()) == [(0, 5)]


def test_a_step_has_a_bar_of_its_own_until_it_is_done(live):
    live.step("decoding images", 1, 3)
    assert bars(live) == {"decoding images": (1, 3)}
    live.step("decoding images", 3, 3)
    assert bars(live) == {}
    live.step("predicting", 2, 9)
    assert bars(live) == {"predicting": (2, 9)}


def test_finished_folds_notes_and_warnings_scroll_by(live):
    live.plan(TASKS)
    live.fold_done(TASKS[0], "accuracy 0.9")
    live.note("one thing [bold]")
    live.warn("another")
    shown = live.console.file.getvalue()
    assert "cnn fold 0 finished: accuracy 0.9" in shown
    assert "one thing [bold]" in shown  # names may look like markup
    assert "warning: another" in shown


def test_nothing_to_train_is_no_bar(live):
    live.plan([])
    live.epoch(epoch(0, 1))
    assert bars(live) == {}


def test_plain_lines_tell_the_plan_epochs_and_folds(capsys):
    plain = PlainProgress()
    plain.plan(TASKS)
    plain.epoch(epoch(0, 1, loss=None, score=None))
    plain.fold_done(TASKS[0], "accuracy 0.9")
    plain.step("decoding", 1, 3)  # too soon for a line
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "training 2 folds of 1 members, 4 epochs"
    assert lines[1].startswith("cnn fold 0: epoch 1/2")
    assert lines[2:] == ["cnn fold 0 finished: accuracy 0.9"]


def test_a_step_is_a_line_every_ten_seconds(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    plain = PlainProgress()
    for done in range(1, 31):
        now[0] += 1
        plain.step("decoding", done, 30)
    assert len(capsys.readouterr().err.splitlines()) == 2


@pytest.mark.parametrize(
    ("quiet", "terminal", "kind"),
    [(True, True, Warnings), (False, False, PlainProgress), (False, True, LiveProgress)],
)
def test_what_is_shown_depends_on_quiet_and_the_terminal(
    monkeypatch, quiet, terminal, kind
):
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    with show_progress(quiet=quiet) as shown:
        assert type(shown) is kind


def test_warnings_are_shown_even_when_quiet(capsys):
    quiet = Warnings()
    quiet.note("nobody asked")
    quiet.warn("act on this")
    assert capsys.readouterr().err == "warning: act on this\n"

import pytest

from ensembler.blending.judging.comparison import Difference
from ensembler.evaluation.diversity import compare_members
from ensembler.evaluation.evaluate import evaluate
from ensembler.evaluation.ls import list_run
from ensembler.evaluation.tables import (
    diversity_tables,
    gains_table,
    listing_tables,
    runs_table,
)
from ensembler.run import Run


@pytest.fixture
def run(fake_run):
    Run(fake_run).blend("soft", submit=True)
    return fake_run


def test_scores_are_a_table_for_each_split_and_the_submitted_blend_stands_out(run):
    evaluation = evaluate(run)
    oof, holdout = evaluation.tables(["accuracy", "log_loss"])
    assert oof.columns == holdout.columns == ("name", "accuracy", "log_loss", "rows")
    assert [row[0] for row in oof.rows] == ["a", "b", "blend soft (submitted)"]
    assert oof.best == (2,)
    assert oof.rows[0][1:] == (
        *(evaluation.rows[0].metrics[m] for m in oof.columns[1:3]),
        60,
    )
    assert evaluation._repr_html_().count("<table>") == 2


def test_gains_say_what_their_intervals_hold_for():
    gain = Difference("log_loss", 0.1, 0.01, 0.08, 0.12, 0.07, 0.13)
    table = gains_table("a", [("b", gain), ("c", gain)], n_groups=9)
    assert table.texts()[0] == ["b", "log_loss", "+0.1000", "+0.0700 to +0.1300", "better"]
    (note,) = table.notes
    assert "whole groups (9); the intervals of a metric hold for its 2 comparisons" in note
    (note,) = gains_table("a", [("b", gain)], n_groups=None).notes
    assert note == "Paired by row, independent rows; one comparison for each metric."


def test_differences_are_matrices_and_a_line_for_each_member(run):
    disagreement, correlation, members = diversity_tables(compare_members(run))
    assert disagreement.texts()[0][:2] == ["a", "0.000"]
    assert correlation.columns == ("member", "a", "b")
    assert [row[0] for row in members.rows] == ["a", "b"]


def test_a_run_is_a_table_of_members_and_one_of_blends(run):
    listing = list_run(run)
    members, blends = listing_tables(listing)
    assert members.texts()[0] == ["a", "3/3", "identity, hflip", "-", "-", "complete"]
    assert [(row[0], row[-1]) for row in blends.rows] == [("soft", "yes")]
    assert runs_table(run.folder.parent, [listing]).rows == (("fake", 2, 1, "yes"),)

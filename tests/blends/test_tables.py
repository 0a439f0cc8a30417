import pytest

from ensembler.blending.spec import BlendSpec
from ensembler.blends.blend import blend_run
from ensembler.blends.tables import explanation_tables
from ensembler.predictions.testing import write_fake_run


@pytest.mark.parametrize("method", ["soft", "greedy", "loglinear", "auto"])
def test_a_blend_is_a_table_of_members_and_one_of_scores(fake_run, method):
    outcome = blend_run(fake_run, BlendSpec(method=method), explain=True)
    members, scores = outcome.tables()
    assert [row[0] for row in members.rows] == ["a", "b"]
    assert scores.columns == ("metric", "cross_fitted", "fitted", "holdout")
    assert ("gain over a in log_loss: ") in scores.notes[0]
    assert outcome._repr_html_().count("<table>") == 2
    titles = [table.title for table in explanation_tables(outcome.result)]
    assert titles[-3:] == [
        "reliability of best member",
        "reliability of blend, fitted",
        "reliability of blend, cross-fitted",
    ]
    found = {
        "soft": [],
        "greedy": ["rounds of the search"],
        "loglinear": ["ridge tried, cross-fitted log loss"],
    }
    if method == "auto":
        assert titles[0] == "families compared, cross-fitted"
    else:
        assert titles[:-3] == found[method]


def test_many_members_of_weight_zero_become_one_line(tmp_path):
    strengths = {"m0": 3.0, **dict.fromkeys(("m1", "m2", "m3", "m4", "m5"), 0.5)}
    run = write_fake_run(tmp_path / "fake", strengths)
    members, _ = blend_run(run, BlendSpec(method="single")).tables()
    assert [row[0] for row in members.rows] == ["m0"]
    assert members.notes == ("5 members have weight zero: m1, m2, m3, ...",)
    few = BlendSpec(method="single", members=("m0", "m1", "m2"))
    members, _ = blend_run(run, few).tables()
    assert [row[0] for row in members.rows] == ["m0", "m1", "m2"]
    assert members.notes == ()

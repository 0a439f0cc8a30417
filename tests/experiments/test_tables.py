from types import SimpleNamespace

import pytest

from ensembler.blending.judging.comparison import Difference
from ensembler.experiments.tables import ablation_tables

GAIN = Difference("accuracy", 0.01, 0.01, -0.01, 0.03, -0.02, 0.04)


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        (1, "One seed each"),
        (2, "Two seeds say little"),
        (4, "4 seeds say little"),
        (5, None),
    ],
)
def test_variants_are_a_table_of_scores_and_one_of_gains(seeds, said):
    variants = [
        SimpleNamespace(name="lr-1", scores={"accuracy": 0.5}, seconds=200, gains=None),
        SimpleNamespace(
            name="lr-2", scores={"accuracy": 0.51}, seconds=7, gains={"x": GAIN}
        ),
    ]
    ablation = SimpleNamespace(
        run="a",
        target="label",
        n=10,
        folds=2,
        n_groups=None,
        seeds=seeds,
        metrics=("accuracy",),
        variants=variants,
    )
    scores, gains = ablation_tables(ablation)
    assert scores.texts() == [["lr-1", "0.5000", "3 min 20 s"], ["lr-2", "0.5100", "7 s"]]
    assert gains.texts()[0][0] == "lr-2"
    assert len(gains.notes) == (1 if said is None else 2)
    assert said is None or gains.notes[1].startswith(said)

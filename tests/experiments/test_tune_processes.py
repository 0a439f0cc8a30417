import shutil
import textwrap

import pytest

from ensembler import Recipe
from ensembler.experiments.tune import tune_recipe
from ensembler.machine.execution import Execution

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# The first trial of width 5 is killed in its middle, every one of width 6 hangs.
NETWORKS = """
import os, signal, time
from pathlib import Path

from tinynets import tiny

def odd(num_classes, in_chans, width=4):
    marker = Path("killed")
    if Path("ready").exists():
        if width == 5 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if width == 6:
            time.sleep(3600)
    return tiny(num_classes, in_chans, width)
"""
RECIPE = """
    name: odd
    data: {source: shapes/train.csv, test: shapes/test.csv}
    folds: {count: 2}
    input: {size: 16}
    augment: none
    members:
      cnn: {backbone: "oddnets:odd", epochs: 1, batch_size: 32, amp: off}
    tune:
      space: {model_args.width: [4, 5, 6]}
      sampler: brute_force
      trials: 2
      keep: 1
      timeout: 40s
"""


def test_processes_share_a_study_and_lose_nothing_when_one_is_killed_or_hangs(
    workshop, drawn_shapes
):
    shutil.copytree(drawn_shapes, workshop / "shapes")
    (workshop / "oddnets.py").write_text(NETWORKS)
    path = workshop / "recipe.yaml"
    path.write_text(textwrap.dedent(RECIPE))
    (workshop / "ready").touch()
    found = tune_recipe(
        Recipe.load(path),
        workshop / "artifacts",
        trials=3,
        execution=Execution(processes=2),
    )
    tried = [t for t in found.trials if t.trial.state != "repeated"]
    by_width = {t.trial.params["model_args.width"]: t for t in tried}
    assert {width: t.trial.state for width, t in by_width.items()} == {
        4: "complete",
        5: "complete",
        6: "failed",
    }
    assert (workshop / "killed").exists()
    assert "more than 40s" in by_width[6].trial.reason
    assert found.ended == "every combination of the space was tried"
    assert (
        by_width[found.trials[found.best].trial.params["model_args.width"]].folds_done == 2
    )

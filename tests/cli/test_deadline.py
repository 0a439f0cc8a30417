"""A whole `ens run --deadline` with real prices and a real clock."""

import json
import textwrap
import time

import pandas as pd
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
RECIPE = """
    name: shapes
    data: {source: shapes/train.csv, test: shapes/test.csv}
    folds: {count: 3}
    input: {size: 16}
    defaults: {backbone: test_resnet, batch_size: 16}
    members: {small: {epochs: 1}, long: {epochs: 5000}}
"""
SECONDS = 60


def test_a_deadline_of_seconds_ends_in_time_with_a_submission(ens):
    # the first command also starts the server of forked processes
    ens("demo-data", "shapes", ens.folder / "shapes", "--n", "60")
    recipe = ens.folder / "recipe.yaml"
    recipe.write_text(textwrap.dedent(RECIPE))
    began = time.monotonic()
    done = ens("run", recipe, "--deadline", f"{SECONDS}s", "--json", "--quiet")
    took = time.monotonic() - began
    found = json.loads(done.stdout)
    assert found["stopped"] == "deadline"
    assert {fold["member"] for fold in found["left_out"]} >= {"long"}
    assert len(pd.read_csv(found["submission"])) > 5
    assert took < SECONDS + 10

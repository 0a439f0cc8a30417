"""A recipe whose members look at no images runs where torch is not installed."""

import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest

RECIPE = """
    name: light
    data: {source: shapes/train.csv, test: shapes/test.csv, features: [hint]}
    folds: {count: 2}
    members:
      own: {method: probe, head: lda, features: {file: own.npy, ids: own.txt}}
      columns: {method: tabular, head: ridge}
    blend: {method: soft}
"""
WITHOUT = """
import sys
from pathlib import Path


class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "timm", "albumentations"):
            raise ModuleNotFoundError(f"{name} is not installed", name=name)


sys.meta_path.insert(0, NotInstalled())
from ensembler.pipeline.run import run_recipe
from ensembler.recipe import Recipe

made = run_recipe(Recipe.load(Path("light.yaml")), Path("artifacts"))
assert not made.failures, made.failures
assert "torch" not in sys.modules
print(made.submission)
"""


@pytest.mark.slow
def test_features_of_another_tool_and_columns_need_no_torch(shapes):
    ids = []
    for name in ("train.csv", "test.csv"):
        table = pd.read_csv(shapes / "shapes" / name, dtype=str)
        ids += table["id" if "id" in table else "path"].tolist()
        table.assign(hint=range(len(table))).to_csv(shapes / "shapes" / name, index=False)
    np.save(shapes / "own.npy", np.random.default_rng(0).normal(size=(len(ids), 4)))
    (shapes / "own.txt").write_text("\n".join(ids))
    (shapes / "light.yaml").write_text(textwrap.dedent(RECIPE))
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], cwd=shapes, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("submission.csv")

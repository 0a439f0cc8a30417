"""Real photographs: train, pack, move the bundle away, predict, equal."""

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ensembler import Recipe
from ensembler.bundle.pack import pack_run
from ensembler.pipeline.predict_new import predict_new
from ensembler.pipeline.run import run_recipe
from ensembler.predictions.store import RunStore
from ensembler.reporting.spec import SubmissionSpec
from ensembler.workspace.workspace import workspace_of_run

DATA = Path(os.environ.get("ENS_SHARED_DATA", "")) / "clothing-128"
RECIPE = """
name: clothes
data: {source: train.csv, test: test.csv}
folds: {count: 2}
input: {size: 32}
views: [identity, hflip]
defaults: {epochs: 1, lr: 3e-3, batch_size: 32}
members:
  resnet: {backbone: test_resnet}
  larger: {backbone: test_byobnet, size: 48}
  seeds: {backbone: test_resnet, seeds: 2, as: ensemble}
blend: {method: loglinear}
"""


def unpack(folder: Path, n: int) -> list[str]:
    """The labels of `n` photographs, which are put below `folder`."""
    import tarfile

    table = pd.read_csv(DATA / "manifest.csv")
    chosen = table[table["label"].isin(["T-Shirt", "Pants", "Shoes"])].head(n)
    wanted = {Path(path).name: path for path in chosen["path"]}
    with tarfile.open(DATA / "images.tar") as archive:
        for entry in archive:
            path = wanted.get(Path(entry.name).name)
            if path is not None:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(archive.extractfile(entry).read())
    chosen[["path", "label"]].iloc[: n * 3 // 4].to_csv(folder / "train.csv", index=False)
    chosen[["path"]].iloc[n * 3 // 4 :].to_csv(folder / "test.csv", index=False)
    return chosen["path"].iloc[n * 3 // 4 :].tolist()


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.timeout(600)
@pytest.mark.skipif(not DATA.is_dir(), reason="needs ENS_SHARED_DATA")
def test_a_bundle_of_photographs_predicts_elsewhere_what_the_run_does(tmp_path, ens):
    home, away = tmp_path / "home", tmp_path / "away"
    home.mkdir()
    paths = unpack(home, 160)
    (home / "recipe.yaml").write_text(RECIPE)
    run_recipe(Recipe.load(home / "recipe.yaml"), home / "artifacts")
    store = RunStore(home / "artifacts" / "clothes")
    packed = pack_run(store, away / "clothes.ens", device="cpu")
    assert packed.compared == 32
    assert packed.max_difference < 1e-5
    spec = SubmissionSpec(format="probs", columns=("id",))
    by_run = predict_new(workspace_of_run(store), home / "test.csv", spec=spec)
    wanted = pd.read_csv(by_run.out, dtype={"id": str}).set_index("id")
    for path in paths:
        (away / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(home / path, away / path)
    shutil.copy(home / "test.csv", away / "test.csv")
    shutil.rmtree(home)
    ens.folder = away
    ens("predict", "clothes.ens", "test.csv", "--quiet")
    found = pd.read_csv(away / "predictions.csv", dtype={"id": str}).set_index("id")
    assert found.index.tolist() == paths
    classes = wanted.columns.tolist()
    assert np.array_equal(
        found[classes].to_numpy(np.float32), wanted.loc[paths].to_numpy(np.float32)
    )
    assert (found["label"] == found[classes].idxmax(axis=1)).all()

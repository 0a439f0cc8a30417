"""A run that is made with corrected labels keeps what was corrected, and meets the same file again."""

import pandas as pd
import pytest
from PIL import Image

from ensembler.errors import ChangedRecipeError
from ensembler.recipe.load import Recipe
from ensembler.workspace.workspace import open_workspace


@pytest.fixture
def recipe(tmp_path):
    for i in range(12):
        Image.new("RGB", (8, 8), (20 * i, 0, 0)).save(tmp_path / f"{i}.png")
    rows = [{"path": f"{i}.png", "label": "ab"[i % 2]} for i in range(12)]
    pd.DataFrame(rows).to_csv(tmp_path / "m.csv", index=False)
    (tmp_path / "fixes.csv").write_text("id,given,suggested\n0.png,a,b\n")
    (tmp_path / "recipe.yaml").write_text(
        "name: r\ndata: {source: m.csv, corrections: fixes.csv}\nfolds: {count: 2}\n"
        "input: {size: 8}\nmembers: {cnn: {backbone: resnet18}}\n"
    )
    return tmp_path / "recipe.yaml"


def test_a_run_keeps_its_corrections_and_refuses_others(recipe):
    artifacts = recipe.parent / "artifacts"
    opened = open_workspace(Recipe.load(recipe), artifacts)
    kept = pd.read_csv(opened.store.corrections_path)
    assert kept.to_dict("records") == [
        {"id": "0.png", "target": "label", "given": "a", "label": "b", "action": "relabel"}
    ]
    labels = opened.store.samples.train.set_index("id")["label"]
    assert labels["0.png"] == "b"
    open_workspace(Recipe.load(recipe), artifacts)
    (recipe.parent / "fixes.csv").write_text("id,given,suggested\n2.png,a,b\n")
    with pytest.raises(ChangedRecipeError, match="the data of run 'r' have changed"):
        open_workspace(Recipe.load(recipe), artifacts)

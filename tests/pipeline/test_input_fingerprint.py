"""Members trained before keep their fingerprint unless the pixels they were trained on are others now."""

import numpy as np
import pytest
from PIL import Image

from ensembler import Recipe
from ensembler.members.plan import MemberPlan
from ensembler.workspace.workspace import open_workspace


@pytest.fixture
def plan(tmp_path):
    def of(sizes, overrides=()):
        rng = np.random.default_rng(0)
        for i in range(12):
            path = tmp_path / "d" / "ab"[i % 2] / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            width, height = sizes[i % len(sizes)]
            Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(
                path
            )
        text = "name: r\ndata: {source: d}\nfolds: {count: 2}\ninput: {size: 16}\nmembers: {m: {backbone: test_resnet}}\n"
        (tmp_path / "r.yaml").write_text(text)
        workspace = open_workspace(
            Recipe.load(tmp_path / "r.yaml", overrides), tmp_path / "artifacts"
        )
        return MemberPlan(workspace, workspace.members[0])

    return of


@pytest.fixture
def options(plan):
    return lambda *given: plan(*given).options["input"]


OLD = {"size": 16, "channels": 3, "resize": "stretch", "prepare": []}


def test_members_whose_pixels_are_as_they_were_keep_their_options(options):
    assert options([(20, 30), (8, 16)]) == OLD


def test_members_trained_on_images_scaled_otherwise_are_trained_again(options):
    assert options([(20, 30), (8, 40)]) == {**OLD, "axes": "scaled one by one"}


def test_new_input_options_count(options):
    assert options([(20, 30)], ["input.decode=reduced"]) == {**OLD, "decode": "reduced"}


def test_a_folder_of_weights_counts_by_what_is_in_it_and_not_by_where_it_lies(
    plan, tmp_path
):
    def fingerprint(folder, weights="those"):
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text('{"architecture": "test_resnet"}')
        (folder / "model.safetensors").write_text(weights)
        return plan(
            [(20, 30)], [f"members.m={{backbone: 'local-dir:{folder}', pretrained: true}}"]
        ).fingerprint

    first = fingerprint(tmp_path / "here")
    assert fingerprint(tmp_path / "there") == first
    assert fingerprint(tmp_path / "there", "others") != first

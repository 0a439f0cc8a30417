"""Records that were altered, or written by hand with other types, are one clear line and never a traceback."""

import json

import numpy as np
import pytest

from ensembler.blends.apply import apply_blend, members_below
from ensembler.errors import StoreError
from ensembler.predictions.finished_folds import (
    FinishedFold,
    fold_path,
    read_finished_fold,
    write_finished_fold,
)
from ensembler.predictions.store import RunStore
from ensembler.run import Run

DEEP = "[" * 100_000 + "]" * 100_000


def alter(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture
def run(fake_run):
    run = Run(fake_run)
    run.blend("soft", name="one")
    return run


@pytest.mark.parametrize(
    "changes",
    [
        {"members": []},
        {"members": "a"},
        {"members": [["a"]]},
        {"scores": []},
        {"scores": {"cross_fitted": [1]}},
        {"scores": {"cross_fitted": {"accuracy": "high"}}},
        {"classes": []},
        {"weights": ["a"]},
    ],
)
@pytest.mark.parametrize("command", ["ls", "evaluate", "submit"])
def test_a_blend_with_values_of_other_types(run, ens_here, changes, command):
    alter(run.store.folder / "blends" / "one" / "blend.json", **changes)
    done = ens_here(command, run.store.folder, expect=1)
    assert f"blend.json: {next(iter(changes))}" in done.stderr


@pytest.mark.parametrize(
    "scores", [{"oof": 1}, {"oof": {"accuracy": "high"}}, {"oof": [1]}, {"test": None}]
)
def test_a_member_of_another_tool_may_have_any_scores(run, ens_here, scores):
    alter(run.store.folder / "members" / "a" / "member.json", scores=scores)
    assert "complete" in ens_here("ls", run.store.folder).stdout
    ens_here("evaluate", run.store.folder)


@pytest.mark.parametrize(
    ("lock", "named"),
    [
        ({"members": [{}, ["a"], 1]}, None),
        ({"members": {"a": 1}}, None),
        ({"part_of": []}, None),
        ({"multi_label": {"label": 3}}, "multi_label"),
        ({"multi_label": {"label": {}}}, "multi_label"),
    ],
)
def test_a_lock_with_values_of_other_types(run, ens_here, lock, named):
    (run.store.folder / "recipe.lock.json").write_text(json.dumps(lock))
    done = ens_here("evaluate", run.store.folder, expect=0 if named is None else 1)
    if named is not None:
        assert f"recipe.lock.json: {named} is not what `ens` writes" in done.stderr


def test_a_lock_whose_composition_is_none(run):
    (run.store.folder / "recipe.lock.json").write_text(
        json.dumps({"composition": {"name": 1}})
    )
    with pytest.raises(StoreError, match="composition is not what `ens` writes"):
        _ = RunStore(run.store.folder).composition


def test_a_blend_that_is_made_of_itself(run):
    run.blend("soft", name="two", members=["a", "blend:one"])
    alter(run.store.blend_folder("one") / "blend.json", members=["a", "blend:two"])
    for read in (
        lambda: members_below(run.store, "two"),
        lambda: apply_blend(run.store, "two", {}),
    ):
        with pytest.raises(
            StoreError, match="blend 'two' is made of itself; it was altered"
        ):
            read()


@pytest.mark.parametrize(
    ("details", "message"),
    [
        (None, "blend.json: details do not name a blend for each task"),
        ({}, "blend.json: details do not name a blend for each task"),
        ([], "blend.json: details: input should be a valid dictionary"),
        ({"tasks": [1]}, "blend.json: details.tasks: input should be a valid dictionary"),
        (
            {"tasks": {"a": 1}},
            "blend.json: details.tasks.a: input should be a valid string",
        ),
    ],
)
def test_a_composed_blend_without_the_blends_of_its_tasks(run, details, message):
    alter(run.store.blend_folder("one") / "blend.json", method="composed", details=details)
    with pytest.raises(StoreError, match=message):
        apply_blend(run.store, "one", {})


@pytest.mark.parametrize(
    "name", ["members/a/member.json", "blends/one/blend.json", "submission.json"]
)
def test_records_that_are_nested_without_end(run, ens_here, name):
    (run.store.folder / name).write_text(f'{{"format": 1, "name": {DEEP}}}')
    done = ens_here("ls", run.store.folder, expect=1)
    assert f"{name} is not readable JSON" in done.stderr


def with_header(path, header):
    content = header.encode()
    path.write_bytes(len(content).to_bytes(8, "little") + content)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (f'{{"__metadata__": {DEEP}}}', "cannot be read"),
        ("[]", "cannot be read"),
        (
            '{"__metadata__": {"record": "{}", "sha256": ""}, '
            + ", ".join(
                f'"{name}": {{"dtype": "F32", "shape": [1000000, 1000000], "data_offsets": [0, 0]}}'
                for name in ("rows", "oof", "test")
            )
            + "}",
            r"rows of shape \[1000000, 1000000\] does not take 0 bytes",
        ),
    ],
)
def test_a_finished_fold_whose_header_claims_anything(tmp_path, header, message):
    with_header(fold_path(tmp_path, 0), header)
    with pytest.raises(StoreError, match=message):
        read_finished_fold(tmp_path, 0)


def test_a_finished_fold_without_rows_is_read(tmp_path):
    none = np.zeros((2, 0, 3), np.float32)
    write_finished_fold(
        tmp_path, FinishedFold(0, np.zeros(0, np.int64), none, none, {"views": ["a", "b"]})
    )
    assert read_finished_fold(tmp_path, 0).oof.shape == (2, 0, 3)


def test_a_checkpoint_whose_header_is_nested_without_end(tmp_path):
    from ensembler.networks.checkpoint import read_description

    header = json.dumps({"__metadata__": {"ensembler": DEEP}})
    with_header(tmp_path / "fold0.safetensors", header)
    with pytest.raises(StoreError, match="is not a whole checkpoint"):
        read_description(tmp_path / "fold0.safetensors")

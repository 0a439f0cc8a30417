"""New samples are predicted by the blend that was fitted, not by one that is fitted again."""

import json

import numpy as np
import pytest

import ensembler.blends.apply as apply
from ensembler.blending.spec import BlendSpec
from ensembler.blending.state import State
from ensembler.blends.apply import apply_blend
from ensembler.blends.blend import blend_run
from ensembler.errors import MissingFileError, RequestError, StoreError
from ensembler.files import read_json, write_json
from ensembler.predictions.blends import STATE
from ensembler.predictions.store import RunStore
from ensembler.predictions.testing import write_fake_run
from ensembler.progress import RecordedProgress


def probs_of(run, target="label"):
    classes = run.classes(target)
    return {(name, target): run.member(name).test(classes) for name in run.pool_members}


@pytest.fixture
def no_second_fit(monkeypatch):
    def fail(*_, **__):
        raise AssertionError("the blend was fitted again")

    monkeypatch.setattr(apply, "make_blend", fail)
    monkeypatch.setattr(apply, "read_pool", fail)


def without_state(run, name):
    """The blend as an earlier version kept it."""
    path = run.blend_folder(name) / "blend.json"
    record = read_json(path)
    del record["sha256"][STATE]
    write_json(path, record)
    (run.blend_folder(name) / STATE).unlink()


@pytest.mark.parametrize(
    "spec",
    [
        {"method": "auto"},
        {
            "method": "stack",
            "calibrate": "temperature",
            "options": {"shrinkage": 30.0, "ridge": 0.01},
        },
        {"method": "soft", "calibrate_members": "vector", "calibrate": "temperature"},
        {"method": "greedy", "metric": "accuracy", "calibrate": "biases"},
        {"method": "weights", "weights": {"a": 1, "b": 2}},
    ],
    ids=lambda spec: spec["method"],
)
def test_a_kept_blend_predicts_the_same_bits_without_a_fit(fake_run, no_second_fit, spec):
    made = blend_run(fake_run, BlendSpec.model_validate(spec))
    progress = RecordedProgress()
    found = apply_blend(fake_run, spec["method"], probs_of(fake_run), progress=progress)
    assert np.array_equal(found, made.result.test)
    assert np.array_equal(found, fake_run.blend(spec["method"]).test)
    assert progress.warnings == []


@pytest.mark.parametrize(
    ("method", "options"), [("greedy", {"metric": "accuracy"}), ("hill_climb", {})]
)
def test_a_blend_that_was_stopped_predicts_as_itself(tmp_path, method, options):
    strengths = {f"m{i}": 0.4 + 0.05 * i for i in range(12)}
    run = write_fake_run(tmp_path / "run", strengths, n_train=300, n_test=300)
    spec = BlendSpec(method=method, options=options)
    hurried = blend_run(run, spec, budget=0.0)
    assert "stopped_early" in {w["code"] for w in hurried.result.warnings}
    assert np.array_equal(apply_blend(run, method, probs_of(run)), hurried.result.test)
    patient = blend_run(run, spec.model_copy(update={"name": "patient"}))
    assert (hurried.result.test.argmax(axis=1) != patient.result.test.argmax(axis=1)).any()


def test_a_blend_that_ctrl_c_ended_predicts_as_itself(fake_run, monkeypatch):
    import ensembler.blending.methods.greedy as greedy

    real, pressed = greedy.search, []

    def pressed_once(step, rounds, stop):
        def with_ctrl_c(i):
            if i == 2 and not pressed:
                pressed.append(i)
                raise KeyboardInterrupt
            return step(i)

        return real(with_ctrl_c, rounds, stop)

    monkeypatch.setattr(greedy, "search", pressed_once)
    made = blend_run(fake_run, BlendSpec(method="greedy"))
    assert "stopped_early" in {w["code"] for w in made.result.warnings}
    monkeypatch.undo()
    assert np.array_equal(
        apply_blend(fake_run, "greedy", probs_of(fake_run)), made.result.test
    )


def test_a_blend_from_before_is_fitted_once_more_and_says_so(fake_run):
    made = blend_run(fake_run, BlendSpec(method="simplex", calibrate="temperature"))
    without_state(fake_run, "simplex")
    progress = RecordedProgress()
    found = apply_blend(fake_run, "simplex", probs_of(fake_run), progress=progress)
    assert np.allclose(found, made.result.test, atol=1e-6)
    assert progress.warnings == [
        "blend 'simplex' has no fitted state in the store, so it is fitted again; `ens blend fake "
        "--name simplex` with its options keeps one"
    ]


def test_an_altered_or_missing_state_is_named(fake_run):
    blend_run(fake_run, BlendSpec(method="soft"))
    path = fake_run.blend_folder("soft") / STATE
    content = path.read_bytes()
    path.write_bytes(content + b" ")
    with pytest.raises(
        StoreError, match=r"blend\.safetensors is not the file .* was altered"
    ):
        apply_blend(fake_run, "soft", probs_of(fake_run))
    path.unlink()
    with pytest.raises(MissingFileError, match=r"blend\.safetensors is missing"):
        apply_blend(fake_run, "soft", probs_of(fake_run))


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.pop("candidate"),
        lambda values: values.update(candidate=[1]),
        lambda values: values["candidate"].update(strange=1),
        lambda values: values.update(method=3),
        lambda values: values.pop("labels"),
        lambda values: values.update(members=["b", "a"]),
    ],
)
def test_a_state_with_other_content_is_named(fake_run, change):
    import hashlib

    blend_run(fake_run, BlendSpec(method="soft"))
    folder = fake_run.blend_folder("soft")
    state = State.from_bytes((folder / STATE).read_bytes())
    values = json.loads(json.dumps(dict(state.values)))
    change(values)
    content = State(state.arrays, values).to_bytes()
    (folder / STATE).write_bytes(content)
    record = read_json(folder / "blend.json")
    record["sha256"][STATE] = hashlib.sha256(content).hexdigest()
    write_json(folder / "blend.json", record)
    with pytest.raises(StoreError, match=r"blend\.safetensors"):
        apply_blend(RunStore(fake_run.folder), "soft", probs_of(fake_run))


def test_code_that_only_a_state_names_is_not_run(fake_run, tmp_path, monkeypatch):
    (tmp_path / "planted.py").write_text("raise AssertionError('it was run')")
    monkeypatch.syspath_prepend(tmp_path)
    blend_run(fake_run, BlendSpec(method="soft"))
    folder = fake_run.blend_folder("soft")
    state = State.from_bytes((folder / STATE).read_bytes())
    for change in (
        {"method": "planted:Method"},
        {"options": {"estimator": "planted:Model"}},
    ):
        candidate = {**state.values["candidate"], **change}
        content = State(state.arrays, {**state.values, "candidate": candidate}).to_bytes()
        monkeypatch.setattr("ensembler.predictions.blends.Blend.state", content)
        with pytest.raises(RequestError, match="what a record names is not run"):
            apply_blend(fake_run, "soft", probs_of(fake_run))

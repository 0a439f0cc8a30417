"""The notebook's door, and what is promised to stay."""

import inspect
import subprocess
import sys

import numpy as np
import pytest

import ensembler
from ensembler.blending.spec import BlendSpec
from ensembler.blends.pool import read_pool
from ensembler.evaluation.evaluate import evaluate
from ensembler.run import BlendOptions, EvaluationOptions, PoolOptions, Run


def test_exported_members_are_these_and_all_there():
    assert ensembler.__all__ == [
        "BlendSpec",
        "EnsemblerError",
        "Pool",
        "Predictor",
        "Recipe",
        "Run",
        "__version__",
        "create_blend",
        "make_blend",
    ]
    assert set(ensembler.__all__) <= set(dir(ensembler))
    for name in ensembler.__all__:
        assert getattr(ensembler, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'create_blends'"):
        _ = ensembler.create_blends


def test_importing_the_package_loads_nothing_else():
    code = (
        "import sys, ensembler; print({'numpy', 'pandas', 'pydantic'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def keywords(function):
    parameters = inspect.signature(function).parameters.values()
    return {p.name for p in parameters if p.kind is p.KEYWORD_ONLY}


def test_the_types_of_options_name_all_that_there_are():
    assert set(BlendOptions.__annotations__) == {*BlendSpec.model_fields, "target"} - {
        "method"
    }
    assert set(EvaluationOptions.__annotations__) == keywords(evaluate)
    assert set(PoolOptions.__annotations__) == keywords(read_pool)


def test_a_run_in_a_notebook(fake_run):
    run = Run.open(fake_run.folder)
    assert run.stack().shape == (2, 60, 3)
    pool = run.pool(["a"], merge="logits")
    assert pool.names == ("a",)
    outcome = run.blend("weights", weights={"a": 2, "b": 1}, name="mine", submit=True)
    assert outcome.result.weights == {"a": pytest.approx(2 / 3), "b": pytest.approx(1 / 3)}
    submitted = [row.name for row in run.evaluate(metrics=["brier"]).rows if row.submitted]
    assert submitted == ["mine", "mine"]
    of_target = run.blend("soft", target="label", name="again").result
    assert np.allclose(of_target.oof, run.stack().mean(axis=0), atol=1e-6)

"""The constraints of the job that tries the oldest versions that we allow."""

import importlib.util
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def lowest_versions():
    path = ROOT / "scripts" / "lowest_versions.py"
    spec = importlib.util.spec_from_file_location("lowest_versions", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("requirement", "pin"),
    [
        ("numpy>=2.0", "numpy==2.0.*"),
        ("albumentations>=2.0.8,<3", "albumentations==2.0.8.*"),
        ("torchensemble==0.2.0", "torchensemble==0.2.0.*"),
        ("rembg[cpu]>=2.0.69", "rembg==2.0.69.*"),
        ("ensembler-toolkit[all]", None),
    ],
)
def test_a_lower_bound_becomes_a_pin(lowest_versions, requirement, pin):
    assert lowest_versions.lowest(requirement) == pin


def test_every_dependency_of_ours_has_a_lower_bound(lowest_versions):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = lowest_versions.constraints(project, ["train"])
    wanted = [*project["dependencies"], *project["optional-dependencies"]["train"]]
    assert len(pins) == len(wanted)

"""What must load without the training half, and which way imports point."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ensembler"
HEAVY = ("torch", "torchvision", "timm", "albumentations", "cv2", "torchensemble", "ray")
# The house of docs/architecture.md: a room may import the rooms below it.
ROOMS = [
    "cli",
    "pipeline",
    "audit",
    "training",
    "inference",
    "networks",
    "reporting",
    "recipe",
    "blending",
    "predictions",
    "metrics",
    "data",
]
MAY_IMPORT = {
    "cli": set(ROOMS),
    "pipeline": set(ROOMS) - {"cli"},
    "audit": {"data", "networks", "metrics"},
    "training": {"data", "networks", "metrics"},
    "inference": {"data", "networks", "predictions"},
    "networks": set(),
    "reporting": {"predictions", "blending", "metrics"},
    "blending": {"metrics"},
    "predictions": set(),
    "metrics": set(),
    "data": set(),
}


def modules_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize(
    "code",
    [
        "import ensembler.cli.app",
        "import ensembler.blending, ensembler.blending.make, ensembler.blending.loglinear, ensembler.blending.stacking",
        "import ensembler.metrics, ensembler.predictions.store, ensembler.recipe.load",
        "import ensembler.pipeline.run, ensembler.pipeline.hand_in, ensembler.pipeline.listing",
    ],
)
def test_the_half_that_works_on_predictions_never_imports_the_training_half(code):
    assert not modules_after(code) & set(HEAVY)


def test_the_command_line_loads_neither_numpy_nor_pandas_nor_scikit_learn():
    assert not modules_after("import ensembler.cli.app") & {"numpy", "pandas", "sklearn", "scipy", "pydantic"}


def test_weights_and_greedy_selection_start_without_scipy():
    code = "import ensembler.pipeline.blend, ensembler.blending.greedy, ensembler.blending.voting"
    assert not modules_after(code) & {"scipy", "sklearn"}


def test_importing_the_package_loads_nothing_heavy():
    assert not modules_after("import ensembler") & {"numpy", "pandas", "pydantic", *HEAVY}


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_imports_point_down_the_house(room):
    for path in (PACKAGE / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("ensembler."):
                continue
            other = node.module.split(".")[1]
            if other == room or other not in MAY_IMPORT:
                continue
            is_spec = node.module.endswith(".spec")  # a room's spec may be composed into another's
            assert other in MAY_IMPORT[room] or is_spec, f"{path.name} imports {node.module}"

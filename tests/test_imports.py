"""What must load without the training half, and which way imports point."""

import ast
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "ensembler"
HEAVY = ("torch", "torchvision", "timm", "albumentations", "cv2", "torchensemble", "ray")
# The house of docs/architecture.md, from the roof down: a room imports only what stands below it.
HOUSE = [
    "__main__",
    "cli",
    "agents",
    "report",
    "experiments",
    "pipeline",
    "execution",
    "members",
    "run",
    "bundle",
    "sharing",
    "evaluation",
    "workspace",
    "blends",
    "audit",
    "recipe",
    "reporting",
    "training",
    "inference",
    "networks",
    "estimators",
    "blending",
    "predictions",
    "demo",
    "data",
    "metrics",
    "targets",
    "machine",
    "progress",
    "deadline",
    "signals",
    "stop",
    "outputs",
    "arguments",
    "own_code",
    "plain_text",
    "registry",
    "npy",
    "files",
    "errors",
    "fold_columns",
    "logits",
]
# Rooms that train, predict or look at images. What the others import, even inside a function, never
# leads to torch.
UPSTREAM = {
    "__main__",
    "cli",
    "agents",
    "report",
    "experiments",
    "pipeline",
    "execution",
    "members",
    "bundle",
    "workspace",
    "audit",
    "training",
    "inference",
    "networks",
    "demo",
    "data",
}
DOWNSTREAM = set(HOUSE) - UPSTREAM


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py")}


@cache
def imports_of(name: str) -> set[str]:
    """The modules that a module imports, also inside functions.

    Of other packages the first part of the name.
    """
    return imported(ast.walk(ast.parse(MODULES[name].read_text())))


@cache
def loaded_with(name: str) -> set[str]:
    """The modules that are loaded when a module is: those it imports outside functions."""
    return imported(ast.parse(MODULES[name].read_text()).body)


def imported(nodes: Iterable[ast.AST]) -> set[str]:
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inner & MODULES.keys()) or {str(node.module)}
    return {module if module in MODULES else module.partition(".")[0] for module in found}


def room_of(name: str) -> str:
    return [*name.split("."), ""][1]


def circles(graph: dict[str, set[str]]) -> list[str]:
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        return list(error.args[1])
    return []


def modules_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_the_half_that_works_on_predictions_never_imports_the_training_half():
    found = modules_after(
        "import ensembler.blending, ensembler.blending.make, ensembler.blending.methods.loglinear, "
        "ensembler.blending.methods.stacking, ensembler.metrics, ensembler.predictions.store, "
        "ensembler.recipe.load, ensembler.run, ensembler.blends.submit, ensembler.evaluation.ls"
    )
    assert not found & set(HEAVY)


def test_the_command_line_loads_neither_numpy_nor_pandas_nor_scikit_learn_nor_torch():
    assert not modules_after("import ensembler.cli.app") & {
        "numpy",
        "pandas",
        "sklearn",
        "scipy",
        "pydantic",
        *HEAVY,
    }


def test_weights_start_and_greedy_selection_blends_a_pool_without_scipy(tmp_path):
    code = f"""
import ensembler.blending.methods.voting
from pathlib import Path
from ensembler.blending.spec import BlendSpec
from ensembler.blends.blend import blend_run
from ensembler.predictions.store import RunStore
from ensembler.predictions.testing import write_fake_run
folder = write_fake_run(Path({str(tmp_path)!r}) / "run", {{"a": 1.0, "b": 1.1, "c": 1.2}}, n_train=3000).folder
blend_run(RunStore(folder), BlendSpec(method="greedy"))
"""
    assert not modules_after(code) & {"scipy", "sklearn"}


def test_importing_the_package_loads_nothing_heavy():
    assert not modules_after("import ensembler") & {"numpy", "pandas", "pydantic", *HEAVY}


def test_every_room_has_its_place_in_the_house():
    assert {room_of(name) for name in MODULES} - {""} == set(HOUSE)


def test_imports_point_down_the_house():
    in_rooms = [
        name for name in MODULES if room_of(name)
    ]  # all but the package's front door
    upwards = [
        f"{name} imports {other}" for name in in_rooms for other in sorted(upward_of(name))
    ]
    assert upwards == []


def upward_of(name: str) -> set[str]:
    """What a module imports that stands above it in the house."""
    below = {"", *HOUSE[HOUSE.index(room_of(name)) :]}
    inner = imports_of(name) & MODULES.keys()
    return {other for other in inner if room_of(other) not in below}


def test_no_import_closes_a_circle():
    graph = {name: (imports_of(name) & MODULES.keys()) - {name} for name in MODULES}
    assert circles(graph) == []
    front_door = graph.pop("ensembler")
    assert {room_of(name) for name in front_door} == {
        "run",
        "recipe",
        "blending",
        "bundle",
        "errors",
    }


def test_what_works_on_predictions_never_leads_to_torch():
    downstream = sorted(name for name in MODULES if room_of(name) in DOWNSTREAM)
    assert downstream
    ways = [f"{name} imports {way}" for name in downstream for way in ways_to_torch(name)]
    assert ways == []


def ways_to_torch(name: str) -> list[str]:
    """How a module's imports, also those inside its functions, come to load what is heavy."""
    found = []
    seen, ahead = set(), [(other, other) for other in imports_of(name)]
    while ahead:
        module, way = ahead.pop()
        if module in HEAVY:
            found.append(way)
        for other in loaded_with(module) - seen if module in MODULES else ():
            seen.add(other)
            ahead.append((other, f"{way} -> {other}"))
    return found

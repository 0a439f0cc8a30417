import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from contextlib import contextmanager

import pytest
from forked_ens import Ens

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_is_heard():
    """Processes started in the background ignore SIGINT and so would all that tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish():
    """What all tests have in common is left out of every later garbage collection."""
    gc.freeze()


def pytest_sessionfinish():
    """What was left out is let go at the end."""
    gc.unfreeze()


@pytest.fixture(scope="session", autouse=True)
def disks_are_not_waited_for():
    """No test cuts the power: what is written need not reach the disk, here; processes do wait."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _: None)
        yield


def pytest_runtest_setup(item):
    """Skip what is marked `gpu` without a CUDA device, and `cluster` unless it is asked for."""
    is_of_cluster = item.get_closest_marker("cluster") is not None
    if is_of_cluster and "cluster" not in item.config.option.markexpr:
        pytest.skip("starts a Ray cluster: pytest -m cluster")
    if item.get_closest_marker("gpu") is None:
        return
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture
def fake_run(tmp_path):
    from ensembler.predictions.testing import write_fake_run

    return write_fake_run(tmp_path / "artifacts" / "fake")


@pytest.fixture
def ens(tmp_path):
    return Ens(tmp_path)


@pytest.fixture
def ens_here(tmp_path, monkeypatch, capsys):
    """Runs `ens` in this process, in a folder of its own: for commands that train nothing."""
    from ensembler.cli.app import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENS_ARTIFACTS", str(tmp_path / "artifacts"))
    handler = signal.getsignal(signal.SIGTERM)

    def run(*arguments: object, expect: int = 0) -> subprocess.CompletedProcess:
        given = ["ens", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", given)
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        assert left.value.code == expect, f"exit {left.value.code}\n{out}\n{err}"
        return subprocess.CompletedProcess(given, expect, out, err)

    yield run
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of its own with 1 MB, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no small disk can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


TINY_NETWORKS = """
import torch

def tiny(num_classes, in_chans, width=8):
    return torch.nn.Sequential(
        torch.nn.Conv2d(in_chans, width, 3, stride=2), torch.nn.BatchNorm2d(width), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(4 * width, num_classes),
    )
"""


LASTING = {}  # the modules that lie in no test's folder, by their names


@pytest.fixture(autouse=True)
def fresh_modules():
    """No test sees a module that another one wrote into its folder, under the same name."""
    temporary = os.path.join(tempfile.gettempdir(), "pytest-of-")  # noqa: PTH118 files are texts
    for name, module in list(sys.modules.items()):
        if LASTING.get(name) is module:
            continue  # thousands of them at every test: only what is new is looked at
        if str(getattr(module, "__file__", None)).startswith(temporary):
            del sys.modules[name]
        else:
            LASTING[name] = module


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """A folder with the module of tiny networks, the current one for all tests of a file."""
    folder = tmp_path_factory.mktemp("workshop")
    (folder / "tinynets.py").write_text(TINY_NETWORKS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="session")
def drawn_shapes(tmp_path_factory):
    """A folder with drawn shapes, to be copied where a test works on it."""
    from ensembler.demo.shapes import write_shapes

    folder = tmp_path_factory.mktemp("drawn") / "shapes"
    write_shapes(folder, n=60, seed=1)
    return folder


@pytest.fixture
def shapes(tmp_path, monkeypatch, drawn_shapes):
    """A folder with drawn shapes and a module of tiny networks."""
    shutil.copytree(drawn_shapes, tmp_path / "shapes")
    (tmp_path / "tinynets.py").write_text(TINY_NETWORKS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


RECIPE = """
    name: shapes
    data: {source: shapes/train.csv, test: shapes/test.csv}
    folds: {count: 3, holdout: 0.2}
    input: {size: 16}
    views: [identity, hflip]
    defaults: {backbone: "tinynets:tiny", epochs: 2, lr: 0.01, batch_size: 16}
    members:
      narrow: {}
      wide: {model_args: {width: 16}}
    blend: {method: soft}
"""


@pytest.fixture
def recipe(shapes):
    path = shapes / "recipe.yaml"
    path.write_text(textwrap.dedent(RECIPE))
    return path


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory, drawn_shapes):
    """A folder with the recipe above and its finished run, to be copied."""
    from ensembler import Recipe
    from ensembler.pipeline.run import run_recipe

    folder = tmp_path_factory.mktemp("finished")
    shutil.copytree(drawn_shapes, folder / "shapes")
    (folder / "tinynets.py").write_text(TINY_NETWORKS)
    (folder / "recipe.yaml").write_text(textwrap.dedent(RECIPE))
    with within(folder):
        run_recipe(Recipe.load(folder / "recipe.yaml"), folder / "artifacts")
    return folder


@contextmanager
def within(folder):
    """The folder is the current one, and `tinynets` the module that lies in it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.chdir(folder)
        patch.delitem(sys.modules, "tinynets", raising=False)
        yield
        patch.delitem(sys.modules, "tinynets")


@pytest.fixture(scope="session")
def packed_run(finished_run):
    """What was said of the bundle `shapes.ens` of the finished run, to be copied."""
    from ensembler.bundle.pack import pack_run
    from ensembler.predictions.store import RunStore

    store, code = (
        RunStore(finished_run / "artifacts" / "shapes"),
        finished_run / "tinynets.py",
    )
    with within(finished_run):
        return pack_run(store, finished_run / "shapes.ens", with_code=[code])


@pytest.fixture
def finished(recipe, finished_run):
    """The recipe in a folder of the test's own, with its finished run in `artifacts`."""
    shutil.copytree(finished_run / "artifacts", recipe.parent / "artifacts")
    return recipe

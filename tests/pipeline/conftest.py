import sys
import textwrap

import pytest

TINY_NETWORKS = """
import torch

def tiny(num_classes, in_chans, width=8):
    return torch.nn.Sequential(
        torch.nn.Conv2d(in_chans, width, 3, stride=2), torch.nn.BatchNorm2d(width), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(4 * width, num_classes),
    )
"""


@pytest.fixture(autouse=True)
def fresh_modules(monkeypatch):
    """No test sees the tiny networks of another one, which have the same name."""
    monkeypatch.delitem(sys.modules, "tinynets", raising=False)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    """A folder with the module of tiny networks, the current one for all tests of a file."""
    folder = tmp_path_factory.mktemp("workshop")
    (folder / "tinynets.py").write_text(TINY_NETWORKS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.chdir(folder)
        yield folder


@pytest.fixture
def shapes(tmp_path, monkeypatch):
    """A folder with drawn shapes, a module of tiny networks, and the text of a recipe over them."""
    from ensembler.data.demo import write_shapes

    write_shapes(tmp_path / "shapes", n=60, seed=1)
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
    blend: {method: auto}
"""


@pytest.fixture
def recipe(shapes):
    path = shapes / "recipe.yaml"
    path.write_text(textwrap.dedent(RECIPE))
    return path

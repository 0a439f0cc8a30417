"""What of the user's own code runs, who may name it, and that it is said."""

import hashlib
import json
import os
import shutil
import sys
import textwrap
import time

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save

from ensembler import Recipe, own_code
from ensembler.demo.shapes import write_shapes
from ensembler.errors import StoreError
from ensembler.files import fingerprint
from ensembler.machine.execution import Execution
from ensembler.networks.checkpoint import DIGEST, _digest, load_checkpoint, read_description
from ensembler.pipeline.run import run_recipe

RECIPE = """
    name: plain
    data: {source: shapes/train.csv, test: shapes/test.csv}
    folds: {count: 2}
    input: {size: 16}
    augment: none
    members:
      a: {backbone: BACKBONE, epochs: 1, lr: 0.01, batch_size: 16, amp: "off"}
    blend: {method: soft}
"""
TINY = """
import torch

def net(num_classes, in_chans):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(in_chans * 256, num_classes))
"""
MARKS = """
from pathlib import Path
Path("{mark}").write_text("ran")

def go(*arguments, **options):
    Path("{mark}").write_text("ran")
    raise RuntimeError("it ran")
"""


MODULES = ("tinyown", "stepown", "stacker", "evil", "kit")


def forget_modules():
    """As in a new process: no module of a test is there, nor what it held."""
    for name in MODULES:
        sys.modules.pop(name, None)
    own_code._digest.cache_clear()


class Folder:
    """A folder with images and a recipe, and `ens` in it, which starts each time without the modules of the tests."""

    def __init__(self, path, ens=None):
        self.path = path
        self.mark = path / "mark"
        self._ens = ens
        write_shapes(path / "shapes", n=40, seed=1)

    def recipe(self, backbone, name="recipe.yaml", **changes):
        text = textwrap.dedent(RECIPE).replace("BACKBONE", backbone)
        for old, new in changes.items():
            text = text.replace(old, new)
        (self.path / name).write_text(text)

    def ens(self, *arguments, expect=0):
        forget_modules()
        return self._ens(*arguments, expect=expect)


@pytest.fixture
def folder(tmp_path, ens_here):
    yield Folder(tmp_path, ens_here)
    forget_modules()


def forge(path, **network):
    """Rewrite the network that the header of a checkpoint names; its weights stay."""
    with safe_open(path, "pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    header = read_description(path)
    header["network"] |= network
    header.pop(DIGEST)
    header[DIGEST] = _digest(header, weights)
    path.write_bytes(save(weights, metadata={"ensembler": json.dumps(header)}))


def sign(member):
    """Make `member.json` fit the files again, as a forger would."""
    record = json.loads((member / "member.json").read_text())
    for name in record["sha256"]:
        if (member / name).is_file():
            record["sha256"][name] = hashlib.sha256(
                (member / name).read_bytes()
            ).hexdigest()
    (member / "member.json").write_text(json.dumps(record))


@pytest.fixture(scope="module")
def received(tmp_path_factory):
    """A run of a harmless recipe, trained once."""
    folder = Folder(tmp_path_factory.mktemp("received"))
    folder.recipe("test_resnet")
    run_recipe(
        Recipe.load(folder.path / "recipe.yaml"),
        folder.path / "artifacts",
        execution=Execution("cpu"),
    )
    return folder


@pytest.fixture
def hub(folder):
    """The options with which torch.hub, which is in every installation, runs a file of the forger's."""
    hub = folder.path / "hub"
    hub.mkdir()
    (hub / "hubconf.py").write_text(MARKS.format(mark=folder.mark))
    return {
        "backbone": "torch.hub:load",
        "model_args": {"repo_or_dir": str(hub), "model": "go", "source": "local"},
    }


def test_a_checkpoint_whose_header_names_code_runs_nothing(received, folder, hub):
    shutil.copytree(received.path, folder.path, dirs_exist_ok=True)
    member = folder.path / "artifacts" / "plain" / "members" / "a"
    for fold in range(2):
        forge(member / f"fold{fold}.safetensors", **hub)
    sign(member)
    done = folder.ens("tta-predict", "plain", "--views", "hflip", expect=1)
    assert not folder.mark.exists()
    assert (
        "fold0.safetensors names code to run (torch.hub:load) that the recipe does not name"
        in done.stderr
    )
    with pytest.raises(StoreError, match="names code to run"):
        load_checkpoint(member / "fold0.safetensors", "cpu")
    assert not folder.mark.exists()


@pytest.fixture
def weights(received, tmp_path):
    """A copy of one of its checkpoints."""
    path = tmp_path / "fold0.safetensors"
    shutil.copy(
        received.path / "artifacts" / "plain" / "members" / "a" / "fold0.safetensors", path
    )
    return path


@pytest.mark.parametrize("backbone", ["hf-hub:someone/else", "local-dir:somewhere"])
def test_a_checkpoint_whose_header_names_a_hub_or_folder_is_refused(weights, backbone):
    forge(weights, backbone=backbone)
    with pytest.raises(StoreError, match="names what is outside the file"):
        load_checkpoint(weights, "cpu")


@pytest.mark.parametrize(
    "start",
    [
        {"checkpoint": "/nowhere/evil.pth"},
        {"pretrained": True},
        {"model_args": {"checkpoint_path": "/nowhere/evil.pth"}},
        {
            "pretrained": True,
            "model_args": {"pretrained_cfg_overlay": {"file": "/nowhere/evil.pth"}},
        },
    ],
)
def test_what_a_header_says_of_weights_to_start_from_does_not_count(weights, start):
    images = torch.zeros((1, 3, 16, 16), dtype=torch.uint8)
    before = load_checkpoint(weights, "cpu")(images)
    forge(weights, **start)
    assert torch.equal(load_checkpoint(weights, "cpu")(images), before)


@pytest.mark.slow
def test_a_recipe_finds_a_module_beside_it_and_says_what_runs(folder, monkeypatch):
    (folder.path / "project").mkdir()
    folder.recipe("tinyown:net", name="project/recipe.yaml", **{"shapes/": "../shapes/"})
    (folder.path / "project" / "tinyown.py").write_text(TINY)
    done = folder.ens("run", "project/recipe.yaml")
    assert (
        f"uses code of yours: tinyown:net ({folder.path}/project/tinyown.py)" in done.stderr
    )
    # Only the folder is missing now: the run does not say where its recipe was.
    missing = folder.ens("tta-predict", "plain", "--views", "hflip", expect=2)
    assert "there is no module 'tinyown'" in missing.stderr
    assert "PYTHONPATH" in missing.stderr
    monkeypatch.chdir(folder.path / "project")
    found = folder.ens("tta-predict", "plain", "--views", "hflip")
    assert "tinyown.py" in found.stderr
    assert "added hflip" in found.stdout


def test_a_module_of_ones_own_never_hides_an_installed_one(folder):
    folder.recipe("pandas:net")
    (folder.path / "pandas.py").write_text(MARKS.format(mark=folder.mark))
    done = folder.ens("run", "recipe.yaml", expect=2)
    assert not folder.mark.exists()
    assert (
        "has no 'net'; if you mean another file, give it a name that no installed module has"
        in done.stderr
    )


def test_a_module_that_is_missing_or_broken_is_one_line(folder):
    folder.recipe("tinyown:net")
    done = folder.ens("run", "recipe.yaml", expect=2)
    assert "there is no module 'tinyown'" in done.stderr
    assert str(folder.path) in done.stderr
    (folder.path / "tinyown.py").write_text("1 / 0")
    done = folder.ens("run", "recipe.yaml", expect=2)
    assert (
        "module 'tinyown' cannot be imported (ZeroDivisionError: division by zero)"
        in done.stderr
    )


def lock_with(run, estimator):
    """Let the records of a run name an estimator, as a forger would."""
    path = run / "recipe.lock.json"
    lock = json.loads(path.read_text())
    lock["recipe"]["blend"] = {"method": "stack", "options": {"estimator": estimator}}
    path.write_text(json.dumps(lock))


@pytest.mark.parametrize("estimator", ["evil:go", "evil:go.on"])
def test_a_lock_may_not_name_code_for_a_blend(received, folder, estimator, monkeypatch):
    shutil.copytree(received.path, folder.path, dirs_exist_ok=True)
    (folder.path / "evil.py").write_text(MARKS.format(mark=folder.mark))
    lock_with(folder.path / "artifacts" / "plain", estimator)
    monkeypatch.syspath_prepend(folder.path)  # as `python -m` does
    done = folder.ens("blend", "plain", expect=2)
    assert not folder.mark.exists()
    assert f"'{estimator}'" in done.stderr
    assert f"--option estimator={estimator}" in done.stderr


STACKER = """
import sklearn.linear_model

class Logistic(sklearn.linear_model.LogisticRegression):
    pass
"""


@pytest.mark.slow
def test_a_blend_of_ones_own_is_named_by_recipe_or_command_and_said(received, folder):
    shutil.copytree(received.path, folder.path, dirs_exist_ok=True)
    (folder.path / "stacker.py").write_text(STACKER)
    option = ["--method", "stack", "--option", "estimator=stacker:Logistic"]
    done = folder.ens("blend", "plain", *option, "--submit")
    assert f"uses code of yours: stacker:Logistic ({folder.path}/stacker.py)" in done.stderr
    # blend.json names it, but the recipe of the run does not.
    refused = folder.ens("tta-predict", "plain", "--data", "shapes/test.csv", expect=2)
    assert "blend 'stack' was fitted with code" in refused.stderr
    assert "stacker:Logistic" in refused.stderr
    folder.recipe(
        "test_resnet",
        **{"{method: soft}": "{method: stack, options: {estimator: 'stacker:Logistic'}}"},
    )
    folder.ens("run", "recipe.yaml")
    folder.ens("tta-predict", "plain", "--data", "shapes/test.csv")


STEP = "\ndef step(image):\n    return image // 2\n"


def edited(folder, name, text):
    """Write a module so that Python cannot mistake it for the compiled one of a moment ago."""
    path = folder.path / name
    path.write_text(text)
    later = time.time() + len(text)
    os.utime(path, (later, later))


@pytest.mark.slow
def test_an_edited_step_of_ones_own_prepares_and_trains_again(folder):
    folder.recipe("test_resnet", **{"{size: 16}": "{size: 16, prepare: ['stepown:step']}"})
    edited(folder, "stepown.py", STEP)
    folder.ens("run", "recipe.yaml", "-q")
    cache = folder.path / "artifacts" / ".cache"
    assert len(list(cache.glob("pixels-*.npy"))) == 1
    assert "nothing was trained" in folder.ens("run", "recipe.yaml", "-q").stdout
    edited(folder, "stepown.py", STEP.replace("// 2", "* 0 + 255"))
    done = folder.ens("run", "recipe.yaml")
    caches = [np.load(path) for path in cache.glob("pixels-*.npy")]
    assert len(caches) == 2
    assert any((pixels == 255).all() for pixels in caches)
    assert "what is in stepown:step" in done.stderr


@pytest.mark.slow
def test_an_edited_network_of_ones_own_is_trained_again_and_a_member_of_an_older_version_is_not(
    folder,
):
    folder.recipe("tinyown:net")
    edited(folder, "tinyown.py", TINY)
    folder.ens("run", "recipe.yaml", "-q")
    # As a version that looked at names alone has left it.
    path = folder.path / "artifacts" / "plain" / "members" / "a" / "member.json"
    record = json.loads(path.read_text())
    assert list(record["options"].pop("contents")) == ["tinyown:net"]
    samples = hashlib.sha256(
        (folder.path / "artifacts" / "plain" / "samples.csv").read_bytes()
    ).hexdigest()
    new, record["fingerprint"] = (
        record["fingerprint"],
        fingerprint({**record["options"], "samples": samples}),
    )
    older = json.dumps(record)
    path.write_text(older)
    assert "nothing was trained" in folder.ens("run", "recipe.yaml", "-q").stdout
    path.write_text(
        older.replace(record["fingerprint"], new).replace(
            '"options": {', '"options": {"contents": {}, '
        )
    )
    edited(
        folder, "tinyown.py", TINY.replace("Flatten()", "Flatten(), torch.nn.Identity()")
    )
    done = folder.ens("run", "recipe.yaml")
    assert "what is in tinyown:net" in done.stderr
    assert "training 2 folds" in done.stderr


KIT = """
import torch

def loss(logits, targets):
    return torch.nn.functional.cross_entropy(logits, targets)

def sampler(labels, rng):
    return rng.permutation(len(labels))
"""
VIEW = "def view(batch):\n    return batch[:, :, ::-1]\n"


@pytest.mark.slow
def test_a_loss_sampler_view_and_metric_of_ones_own_make_a_run_and_count_in_its_options(
    folder,
):
    (folder.path / "kit.py").write_text(KIT)
    (folder.path / "stepown.py").write_text(VIEW)
    (folder.path / "stacker.py").write_text(
        "def right(probs, y):\n    return (probs.argmax(1) == y).mean()\n"
    )
    named = "loss: kit:loss, sampler: kit:sampler, choose: best, choose_by: stacker:right, "
    folder.recipe(
        "test_resnet",
        **{
            "epochs: 1": f"{named}epochs: 1",
            "members:": "views: [identity, stepown:view]\nmembers:",
            "method: soft": "method: greedy, metric: stacker:right",
        },
    )
    first = folder.ens("run", "recipe.yaml", "--device", "cpu")
    for place in ("kit:loss", "kit:sampler", "stepown:view", "stacker:right"):
        assert place in first.stderr
    member = folder.path / "artifacts" / "plain" / "members" / "a"
    record = json.loads((member / "member.json").read_text())
    assert [view.partition("@")[0] for view in record["views"]] == [
        "identity",
        "stepown:view",
    ]
    contents = record["options"]["contents"]
    assert contents.keys() == {"kit:loss", "kit:sampler", "stacker:right"}
    weights = (member / "fold0.safetensors").read_bytes()

    (folder.path / "stepown.py").write_text(VIEW + "\n# edited\n")
    folder.ens("run", "recipe.yaml", "--device", "cpu")
    now = json.loads((member / "member.json").read_text())
    assert (
        len(now["views"]) == 3
    )  # the edited view is one more, and nothing is trained again
    assert (member / "fold0.safetensors").read_bytes() == weights
    assert now["options"]["contents"] == contents

    (folder.path / "kit.py").write_text(KIT + "\n# edited\n")
    folder.ens("run", "recipe.yaml", "--device", "cpu")
    again = json.loads((member / "member.json").read_text())
    assert again["options"]["contents"]["kit:loss"] != contents["kit:loss"]

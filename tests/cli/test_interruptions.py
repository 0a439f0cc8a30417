"""Real processes, killed and crowded."""

import hashlib
import json
import re
import shutil
import signal
import textwrap
import time

import pandas as pd
import pytest
from forked_ens import Ens

from ensembler.demo.shapes import write_shapes

pytestmark = pytest.mark.slow

NETWORKS = """
import time, torch

class Slow(torch.nn.Module):
    def __init__(self, num_classes, in_chans, pause=0.0):
        super().__init__()
        self.pause = pause
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(in_chans, 8, 3, stride=2), torch.nn.BatchNorm2d(8), torch.nn.ReLU(),
            torch.nn.Dropout(0.3), torch.nn.Flatten(), torch.nn.LazyLinear(num_classes))
        self.body(torch.zeros(2, in_chans, 16, 16))
    def forward(self, x):
        time.sleep(self.pause)
        return self.body(x)
"""
RECIPE = """
    name: shapes
    data: {source: shapes/train.csv, test: shapes/test.csv}
    folds: {count: 3}
    input: {size: 16}
    views: [identity, hflip]
    defaults: {backbone: "slownets:Slow", epochs: 3, lr: 0.01, batch_size: 16, model_args: {pause: 0.03}}
    members: {one: {}, two: {seed: 1}}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Drawn shapes, slow networks and a recipe over them."""
    folder = tmp_path_factory.mktemp("project")
    write_shapes(folder / "shapes", n=60, seed=1)
    (folder / "slownets.py").write_text(NETWORKS)
    (folder / "recipe.yaml").write_text(textwrap.dedent(RECIPE))
    return folder


@pytest.fixture
def recipe(ens, project):
    shutil.copytree(project, ens.folder, dirs_exist_ok=True)
    return ens.folder / "recipe.yaml"


@pytest.fixture(scope="module")
def whole(tmp_path_factory, project):
    """The folder of a run that nobody disturbed."""
    undisturbed = Ens(
        shutil.copytree(project, tmp_path_factory.mktemp("whole") / "project")
    )
    undisturbed("run", "recipe.yaml", "--quiet")
    return undisturbed.folder / "artifacts" / "shapes"


def results(folder):
    """Digests of what a run promises to be the same bits: logits, blends and the submission."""
    files = [
        *folder.glob("members/*/*.npy"),
        *folder.glob("blends/*/*.npy"),
        folder / "submission.csv",
    ]
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in files
    }


def names(folder):
    """The names of a run's files; those of kept submissions without the digest that begins them.

    A submission is kept beside the record of its blend, which says how many seconds it took.
    """
    found = {p.name for p in folder.rglob("*") if p.is_file()}
    return {re.sub(r"^[0-9a-f]{12,64}(?=[-.])", "", name) for name in found}


def wait_for(condition, process, seconds=90):
    for _ in range(int(seconds / 0.02)):
        if condition() or process.poll() is not None:
            return
        time.sleep(0.02)
    raise AssertionError("it never came to pass")


def test_killed_again_and_again_a_run_ends_with_the_same_bits_and_leaves_nothing_behind(
    ens, recipe, whole
):
    folder = ens.folder / "artifacts" / "shapes"
    moments = [
        lambda: (folder / ".training" / "one" / "fold0.state").exists(),
        lambda: (folder / "members" / "one" / "fold1.safetensors").exists(),
        lambda: (folder / "members" / "two" / "fold2.safetensors").exists(),
    ]
    for moment in moments:
        process = ens.start("run", recipe, "--quiet")
        wait_for(moment, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        ens("ls", "shapes")
        if (folder / "submission.csv").exists():
            assert len(pd.read_csv(folder / "submission.csv")) == 15
    done = ens("run", recipe, "--json")
    assert '"trained_folds": ' in done.stdout
    assert results(folder) == results(whole)
    assert names(folder) == names(whole)


def test_ctrl_c_ends_the_epoch_and_hands_in_what_there_is(ens, recipe):
    process = ens.start("run", recipe, "--quiet", "--json")
    folder = ens.folder / "artifacts" / "shapes"
    wait_for(lambda: (folder / ".training" / "one" / "fold0.state").exists(), process)
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "interrupted: the epoch is ended" in errors
    found = json.loads(printed)
    assert found["stopped"] == "interrupted"
    assert found["left_out"]
    assert len(pd.read_csv(found["submission"])) == 15


def test_a_second_ctrl_c_ends_now_with_one_line_on_how_to_go_on(ens, recipe):
    recipe.write_text(recipe.read_text().replace("pause: 0.03", "pause: 2.0"))
    process = ens.start("run", recipe, "--quiet")
    folder = ens.folder / "artifacts" / "shapes"
    wait_for(lambda: list(folder.glob(".training/.options-*")), process)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert time.monotonic() - began < 10
    assert process.returncode == 130, errors
    assert "error: stopped now; `ens run" in errors


def test_two_processes_share_a_runs_folds_and_both_end_well(ens, recipe, whole):
    both = [ens.start("run", recipe, "--json", "--quiet") for _ in range(2)]
    outputs = [process.communicate(timeout=200) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs

    trained = [json.loads(out)["trained_folds"] for out, _ in outputs]
    assert sum(trained) == 6
    assert results(ens.folder / "artifacts" / "shapes") == results(whole)


def test_a_full_disk_is_said_and_the_same_command_goes_on_with_room(ens, recipe):
    """A limit on the size of files stands in for a disk that is full."""
    process = ens.start("run", recipe, "--quiet", largest_file=20_000)
    _, errors = process.communicate()
    assert process.returncode == 1
    assert "no room left to write" in errors
    assert "Traceback" not in errors
    ens("run", recipe, "--quiet")
    assert (ens.folder / "artifacts" / "shapes" / "submission.csv").exists()


def test_tta_predict_adds_views_and_predicts_new_images(ens, recipe):
    ens("run", recipe, "--quiet")
    assert "vflip" in ens("tta-predict", "shapes", "--views", "identity,hflip,vflip").stdout
    done = ens(
        "tta-predict",
        "shapes",
        "--data",
        ens.folder / "shapes" / "images",
        "--out",
        "new.csv",
    )
    assert "75 predictions by blend auto" in done.stdout
    table = pd.read_csv(ens.folder / "new.csv")
    assert table.columns.tolist() == ["id", "label"]
    ens("tta-predict", "shapes", "--data", ens.folder / "shapes" / "test.csv")
    again = pd.read_csv(ens.folder / "artifacts" / "shapes" / "predictions.csv")
    submitted = pd.read_csv(ens.folder / "artifacts" / "shapes" / "submission.csv")
    assert again["label"].tolist() == submitted["label"].tolist()

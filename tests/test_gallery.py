"""Every example of the gallery runs in an empty folder."""

import contextlib
import io
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest

GALLERY = Path(__file__).parents[1] / "docs" / "gallery"
EXAMPLES = sorted(GALLERY.glob("*.py"))


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ENS_ARTIFACTS", raising=False)
    handler = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture(autouse=True)
def commands_in_this_process(monkeypatch):
    """An example starts `python -m ensembler`: torch is imported once for all of its commands."""
    from ensembler.cli.app import main

    def run(command, *, check, stdout):
        assert command[:3] == [sys.executable, "-m", "ensembler"]
        monkeypatch.setattr(sys, "argv", ["ens", *command[3:]])
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as left:
            main()
        assert left.value.code == 0, printed.getvalue()
        return subprocess.CompletedProcess(command, 0, printed.getvalue())

    monkeypatch.setattr(subprocess, "run", run)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "name", [path.stem for path in EXAMPLES if path.stem != "other_tools"]
)
def test_an_example_that_trains_runs_on_fewer_images(empty_folder, name):
    source = (GALLERY / f"{name}.py").read_text()
    assert "IMAGES, EPOCHS = 600, 12" in source
    copy = empty_folder / "example.py"
    images = (
        120 if name == "imbalanced_lab" else 75
    )  # of which the rarest class has a fifth
    few = f"IMAGES, EPOCHS = {images}, 1"
    copy.write_text(source.replace("IMAGES, EPOCHS = 600, 12", few))
    done = runpy.run_path(str(copy))
    assert "auto" in done["run"].blends
    assert (done["run"].store.folder / "submission.csv").is_file()
    if "agreement" in done:
        assert done["agreement"] == 1
        assert not done["made"]["failed"]


@pytest.mark.slow
def test_predictions_of_other_tools_are_blended(empty_folder):
    done = runpy.run_path(str(GALLERY / "other_tools.py"))
    assert done["accuracy"] > 0.9
    solo = [
        row.metrics["log_loss"]
        for row in done["run"].evaluate().rows
        if row.kind == "member"
    ]
    assert done["score"]["log_loss"] < min(solo)


def test_every_example_is_on_the_page():
    page = (GALLERY.parent / "gallery.md").read_text()
    for path in EXAMPLES:
        assert f'"docs/gallery/{path.name}"' in page

"""What the docs promise is there."""

import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from ensembler.inference.views import expand_views
from ensembler.metrics import is_better, row_losses, score
from ensembler.training.losses import build_loss
from ensembler.training.sampling import epoch_size
from ensembler.training.spec import MemberSpec

ROOT = Path(__file__).parents[1]
TEXT = "\n".join(
    p.read_text() for p in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
)


def example(page: str, language: str = "python") -> str:
    """The one block of a language on a page."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    return found


def readme_commands() -> list[str]:
    """The lines of the block of commands under "Ten lines"."""
    block = (ROOT / "README.md").read_text().partition("The command line:\n\n```\n")[2]
    return block.partition("```")[0].splitlines()


def test_the_generated_pages_are_current():
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "write_docs.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_a_member_written_by_hand_as_the_store_page_says_is_a_member(tmp_path, monkeypatch):
    from ensembler import Run

    monkeypatch.chdir(tmp_path)
    exec(example("docs/store.md"), {})
    run = Run.open("mine")
    assert run.stack().shape == (1, 2, 2)
    assert run.stack()[0] == pytest.approx(np.array([[0.8, 0.2], [0.3, 0.7]]), abs=1e-6)
    assert run.blend(method="soft").result.test.shape == (1, 2)


def test_the_notebook_example_runs(tmp_path, monkeypatch, capsys):
    from ensembler.predictions.testing import write_fake_run

    write_fake_run(tmp_path / "artifacts" / "shapes")
    monkeypatch.chdir(tmp_path)
    exec(example("docs/tour.md"), {})
    assert "notebook holdout" in capsys.readouterr().out


def test_no_line_of_text_is_longer_than_120_columns():
    for page in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").glob("*.md"),
    ]:
        for line in page.read_text().splitlines():
            is_row = line.lstrip().startswith("|")
            assert is_row or len(line) <= 120, f"{page.name}: {line}"


def test_generated_pages_name_no_type_twice_and_no_default_as_required():
    page = (ROOT / "docs" / "recipe.md").read_text()
    assert "mapping \\| mapping" not in page
    assert "| required | The run: its folder" not in page


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_readme_runs_as_printed_on_fewer_images(ens_here, tmp_path, capsys):
    recipe = example("README.md", "yaml")
    assert "epochs: 12" in recipe
    (tmp_path / "recipe.yaml").write_text(recipe.replace("epochs: 12", "epochs: 2"))
    assert len(readme_commands()) == 12
    for line in readme_commands():
        command, *arguments = shlex.split(
            line.replace("--groups", "--groups --n 60"), comments=True
        )
        assert command == "ens"
        ens_here(*arguments)
    exec(example("README.md"), {})
    assert "from-python oof 60" in capsys.readouterr().out


def test_every_figure_is_drawn_from_the_table_beside_it():
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "draw_figures.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_what_is_drawn_and_what_the_readme_claims_stands_in_the_docs():
    pages = "\n".join(path.read_text() for path in (ROOT / "docs").glob("*.md"))
    drawn = "\n".join(
        path.read_text() for path in (ROOT / "docs" / "figures").glob("*.csv")
    )
    results = (
        (ROOT / "README.md").read_text().partition("## Results")[2].partition("\n## ")[0]
    )
    for number in re.findall(r"\b0\.\d{3,4}\b", drawn + results):
        assert re.search(rf"\b{re.escape(number)}", pages), number


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mkdocs",
            "build",
            "--strict",
            "--site-dir",
            tmp_path / "site",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "create_blend" in (tmp_path / "site" / "api.html").read_text()


def test_every_page_is_in_the_site():
    named = (ROOT / "mkdocs.yml").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert f": {page.name}\n" in named, page.name


def links(text: str) -> set[str]:
    """The files of this project that a page leads to, and the pictures that it shows."""
    written = re.findall(r"\]\(([^)#:]+)\)", text)
    shown = re.findall(r"(?:src|srcset)=\"([^\"#:]+)\"", text)
    return {*written, *shown}


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """The file that docs/extending.md writes, as a module of its name."""
    folder = tmp_path_factory.mktemp("mine")
    page = (ROOT / "docs" / "extending.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (folder / "mine.py").write_text("\n\n".join(blocks))
    sys.path.append(str(folder))
    yield import_module("mine")
    sys.path.remove(str(folder))
    sys.modules.pop("mine", None)


def test_the_metric_of_the_docs_is_one(mine):
    probs, y = np.array([[0.9, 0.1], [0.4, 0.6], [0.7, 0.3]]), np.array([0, 0, 1])
    assert score("mine:cost", probs, y) == pytest.approx((5 + 1) / 3)
    assert score("mine:COST", probs, y) == pytest.approx(
        row_losses("mine:COST", probs, y).mean()
    )
    assert not is_better("mine:cost", 2.0, 1.0)


def test_the_view_loss_and_sampler_of_the_docs_are_some(mine):
    batch = np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3)
    (view,) = expand_views(["mine:negative"])
    assert np.array_equal(view(batch), 255 - batch)
    labels = np.array([0, 0, 0, 1, -1])
    assert epoch_size("mine:rare_twice", labels) == 6
    logits, y = torch.zeros(4, 3), torch.tensor([0, 1, 2, 0])
    spec = MemberSpec(backbone="resnet18", loss="mine:PolyLoss", class_weights="balanced")
    loss = build_loss(spec, np.array([4, 4, 4]))(logits, y)
    assert float(loss) == pytest.approx(np.log(3) + 2 / 3)
    hinge = build_loss(
        MemberSpec(backbone="resnet18", loss="mine:hinge"), np.array([4, 4, 4])
    )
    assert float(hinge(logits, y)) == pytest.approx(2 / 3)


def test_links_between_pages_lead_somewhere():
    for page in [
        ROOT / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
        ROOT / "artifacts" / "README.md",
    ]:
        for link in links(page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


@pytest.mark.parametrize(
    "words", [("pip", "install", "ensembler"), ("pip", "install", '"ensembler"')]
)
def test_no_text_names_the_other_project_of_our_name(words):
    pattern = re.compile(rf"{' '.join(words)}(?!-toolkit)\b")
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    for name in tracked:
        path = ROOT / name
        if path.suffix in (".py", ".md", ".toml", ".yaml") and path != Path(__file__):
            assert not pattern.search(path.read_text()), name


def test_a_kept_blend_is_read_as_the_store_page_says(fake_run, monkeypatch):
    from ensembler.blending.spec import BlendSpec
    from ensembler.blends.blend import blend_run

    blend_run(fake_run, BlendSpec(weights={"a": 3, "b": 1}))
    monkeypatch.chdir(fake_run.blend_folder("weights"))
    (lines,) = re.findall(
        r"```py\n(.*?)```", (ROOT / "docs" / "store.md").read_text(), re.DOTALL
    )
    known = {}
    exec(lines, known)
    assert known["arrays"]["method.weights_"].tolist() == [0.75, 0.25]
    assert known["values"]["members"] == ["a", "b"]

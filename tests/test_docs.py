"""What the docs promise is there."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
TEXT = "\n".join(p.read_text() for p in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))])


def python_example(page: str) -> str:
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
    return example


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
    exec(python_example("store.md"), {})
    run = Run.open("mine")
    assert run.stack().shape == (1, 2, 2)
    assert run.stack()[0] == pytest.approx(np.array([[0.8, 0.2], [0.3, 0.7]]), abs=1e-6)
    assert run.blend(method="soft").result.test.shape == (1, 2)


def test_the_notebook_example_runs(tmp_path, monkeypatch, capsys):
    from ensembler.predictions.testing import write_fake_run

    write_fake_run(tmp_path / "artifacts" / "shapes")
    monkeypatch.chdir(tmp_path)
    exec(python_example("tour.md"), {})
    assert "notebook holdout" in capsys.readouterr().out


def test_links_between_pages_lead_somewhere():
    for page in [
        ROOT / "README.md",
        *sorted((ROOT / "docs").glob("*.md")),
        ROOT / "artifacts" / "README.md",
    ]:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
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

"""The first blend method of CONTRIBUTING.md does what the page says, as it is printed there."""

import re
from pathlib import Path

import pytest

from ensembler.blending.registry import BLEND_METHODS, create_blend
from ensembler.blending.testing import BlendContract

PAGE = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
METHOD, TEST = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
MODULE = "skill_of_contributing"


@pytest.fixture
def skill(tmp_path, monkeypatch):
    """The method under the name that the page gives it."""
    (tmp_path / f"{MODULE}.py").write_text(METHOD)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(BLEND_METHODS.places, "skill", f"{MODULE}:SkillWeights")
    return create_blend("skill")


class TestTheMethodOfThePage(BlendContract):
    @pytest.fixture
    def method(self, skill):
        return skill


def test_the_test_of_the_page_passes(skill):
    shown = {}
    exec(TEST, shown)
    shown["TestSkillWeights"]().test_the_best_member_has_the_largest_weight(skill)


def test_the_line_of_the_page_has_the_form_of_the_others():
    (line,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    registry = Path(__file__).parents[1] / "ensembler" / "blending" / "registry.py"
    form = re.compile(r' {8}"\w+": "ensembler\.blending\.methods\.\w+:\w+",')
    assert form.fullmatch(line.rstrip("\n"))
    assert len(form.findall(registry.read_text())) >= 10

import pytest

from ensembler.blending.candidate import Candidate
from ensembler.blending.judging import automatic


@pytest.fixture
def few_families(monkeypatch):
    """`auto` compares two quick families: for tests of what is done with any of them."""
    families = [Candidate("simplex"), Candidate("soft")]
    monkeypatch.setattr(automatic, "families_for", lambda *_: families)

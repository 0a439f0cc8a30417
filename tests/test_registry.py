import pytest

from ensembler.errors import RequestError, UnknownNameError
from ensembler.registry import Registry, load_place


@pytest.fixture
def registry():
    return Registry(
        "shape", "ensembler.no_such_group", {"circle": "math:pi", "square": "math:tau"}
    )


def test_a_name_leads_to_its_object(registry):
    import math

    assert registry.load("circle") == math.pi
    assert registry.names == ["circle", "square"]
    assert "square" in registry


def test_an_unknown_name_is_answered_with_the_nearest(registry):
    with pytest.raises(
        UnknownNameError, match="unknown shape 'circel'; did you mean 'circle'"
    ):
        registry.load("circel")


def test_other_packages_add_names_and_replace_none(registry, monkeypatch):
    from importlib.metadata import EntryPoint

    added = [
        EntryPoint("circle", "math:e", "ensembler.no_such_group"),
        EntryPoint("cross", "math:inf", "ensembler.no_such_group"),
    ]
    monkeypatch.setattr("ensembler.registry.entry_points", lambda **_: added)
    assert registry.names == ["circle", "square", "cross"]
    assert registry.load("cross") == float("inf")
    assert registry.load("circle") < 4  # ours


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("math", "is not of the form 'module:name'"),
        (":pi", "is not of the form 'module:name'"),
        ("math:pie", "module 'math'.* has no 'pie'"),
        ("no_such_module_at_all:x", "there is no module 'no_such_module_at_all'"),
    ],
)
def test_a_place_that_leads_nowhere_says_what_is_wrong(place, message):
    with pytest.raises(RequestError, match=message):
        load_place(place, "shape")


def test_a_module_that_breaks_is_told_with_its_error(tmp_path, monkeypatch):
    (tmp_path / "brokenmodule.py").write_text("raise ZeroDivisionError('by zero')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        RequestError, match=r"cannot be imported \(ZeroDivisionError: by zero\)"
    ):
        load_place("brokenmodule:x", "shape")

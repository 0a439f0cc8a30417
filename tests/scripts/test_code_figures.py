"""The figures of the code, on packages so small that they can be counted by eye."""

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "code_figures.py"


@pytest.fixture(scope="module")
def code_figures():
    spec = importlib.util.spec_from_file_location("code_figures", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["code_figures"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["code_figures"]


def write(root, **files):
    for name, text in files.items():
        path = root / "ensembler" / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_two_circles_are_found_and_a_chain_is_none(code_figures):
    graph = {"a": {"b"}, "b": {"a", "c"}, "c": {"d"}, "d": {"c"}, "e": {"a"}}
    found = code_figures.circles(graph)
    assert sorted(sorted(set(circle)) for circle in found) == [["a", "b"], ["c", "d"]]
    assert graph["a"] == {"b"}  # the graph that was given stays as it is
    assert code_figures.circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []


def test_a_circle_through_a_function_counts(code_figures, tmp_path):
    write(
        tmp_path,
        one__a="from ensembler.two import b\n",
        two__b="def f():\n    from ensembler.one.a import g\n",
    )
    modules, rooms = code_figures.graphs_of(code_figures.modules_of(tmp_path))
    assert len(code_figures.circles(modules)) == 1
    assert len(code_figures.circles(rooms)) == 1


def test_docstrings_comments_and_blank_lines_are_no_code(code_figures, tmp_path):
    text = (
        '"""Two\nlines."""\n\n# a remark\nx = 1\n\ndef f():\n    """One."""\n    return x\n'
    )
    write(tmp_path, room__a=text)
    found = code_figures.density(code_figures.modules_of(tmp_path))
    assert found["code lines"] == 3
    # x = 1, def f ( ) :, return x
    assert found["tokens a line"] == pytest.approx((3 + 5 + 2) / 3, abs=0.01)


@pytest.mark.parametrize(
    ("line", "nested"),
    [
        ("[a for a in b]", 0),
        ("[a for b in c for a in b]", 1),
        ("[[a for a in b] for b in c]", 1),
        ("f(a for a in b) or {a: a for a in b}", 0),
    ],
)
def test_a_comprehension_inside_another_is_nested(code_figures, tmp_path, line, nested):
    write(tmp_path, room__a=f"x = {line}\n")
    found = code_figures.density(code_figures.modules_of(tmp_path))
    assert found["nested comprehensions per 100 lines"] == 100 * nested


def test_a_test_file_counts_only_in_the_room_of_its_module(code_figures, tmp_path):
    write(
        tmp_path, one__a="", one__spec="", one__inner__spec="", two__a="", two__import_=""
    )
    for name in ("one/test_a.py", "two/inner/test_import.py"):
        path = tmp_path / "tests" / name
        path.parent.mkdir(parents=True)
        path.touch()
    n_tested, without = code_figures.tested(code_figures.modules_of(tmp_path), tmp_path)
    assert (n_tested, without) == (2, ["ensembler.two.a"])


def test_the_shares_of_rooms_sum_to_a_whole(code_figures, tmp_path):
    write(tmp_path, one__a="x = 1\n" * 3, two__b="x = 1\n")
    shares = code_figures.room_shares(code_figures.modules_of(tmp_path))
    assert shares == {"one": 75.0, "two": 25.0}


def test_a_junit_report_gives_number_and_seconds(code_figures, tmp_path):
    report = tmp_path / "report.xml"
    cases = '<testcase time="1.5"/><testcase time="0.25"/>'
    report.write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    assert code_figures.suite(report) == {
        "tests": 2,
        "seconds, all tests together": 1.8,
        "seconds, the ten slowest": 1.8,
    }

import json

import numpy as np
import pytest

from ensembler.cli.terminal import (
    print_error,
    print_json,
    print_table,
    stoppable,
)
from ensembler.errors import EnsemblerError
from ensembler.reporting.tables import Table


def test_json_is_one_object_in_which_figures_that_are_not_finite_are_null(capsys):
    content = {
        "a": np.float32(0.5),
        "b": [float("nan"), np.int64(3)],
        "c": {"d": float("inf")},
    }
    print_json({**content, "name": "Käse"})
    shown = capsys.readouterr().out
    assert json.loads(shown) == {"a": 0.5, "b": [None, 3], "c": {"d": None}, "name": "Käse"}


def test_an_error_is_for_a_person_and_for_a_script_that_asked(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["ens", "ls"])
    print_error("not so", exit_code=2, code="request")
    assert capsys.readouterr() == ("", "error: not so\n")
    monkeypatch.setattr("sys.argv", ["ens", "ls", "--json"])
    print_error("not so", exit_code=2, code="request")
    said = {"error": "not so", "exit_code": 2, "code": "request"}
    assert json.loads(capsys.readouterr().out) == said
    print_error("not so", exit_code=2, code="missing_run")
    (step,) = json.loads(capsys.readouterr().out)["next"]
    assert step["command"] == "ens ls --json"


def test_a_table_off_a_terminal_cuts_no_figure(capsys):
    columns = ("member", *(f"class {i}" for i in range(20)))
    print_table(
        Table("scores", columns, (("a", *[0.123] * 20),), notes=("a note",), digits=3)
    )
    shown = capsys.readouterr().out
    assert shown.count("0.123") == 20
    assert shown.endswith("\na note\n")
    assert "…" not in shown


def test_ctrl_c_says_how_to_resume():
    with pytest.raises(EnsemblerError, match="`ens run x`"), stoppable("`ens run x`"):
        raise KeyboardInterrupt
    with pytest.raises(ZeroDivisionError), stoppable("`ens run x`"):
        raise ZeroDivisionError

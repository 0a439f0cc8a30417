"""What makes sense next, after answers and errors."""

import pytest

from ensembler.agents.next_steps import next_after_error, next_steps


def commands(*asked):
    return [step["command"] for step in next_steps(*asked)]


def test_a_plan_says_what_the_run_costs():
    (step,) = next_steps("plan", {"recipe": "r.yaml", "deadline": "2h"}, {"seconds": 90.0})
    assert step["command"] == "ens run r.yaml --json --deadline 2h"
    assert step["seconds"] == 90.0


def test_a_run_that_was_stopped_is_resumed_first():
    answer = {"run": "r", "stopped": "deadline", "blend": "auto", "failures": []}
    assert commands("run", {"recipe": "r.yaml"}, answer)[0] == "ens run r.yaml --json"
    finished = commands("run", {"recipe": "r.yaml"}, {**answer, "stopped": None})
    assert finished[0] == "ens evaluate r --json"


def test_steps_stay_in_the_folder_of_runs_and_quote_what_needs_it():
    found = commands("blend", {"run": "my run", "artifacts": "a b"}, {"submitted": True})
    assert found == ["ens evaluate 'my run' --json --artifacts 'a b'"]


def test_a_blend_that_is_not_submitted_may_be():
    found = commands(
        "blend", {"run": "r"}, {"run": "r", "name": "mine", "submitted": False}
    )
    assert found[1] == "ens submit r --blend mine --json"


def test_an_audit_with_an_error_is_repeated_once_it_is_fixed():
    error = {"severity": "error", "message": "3 files are missing", "fix": "put them back"}
    first, *others = next_steps("audit", {"recipe": "r.yaml"}, {"findings": [error]})
    assert first["command"] == "ens audit r.yaml --json"
    assert "put them back" in first["why"]
    assert len(others) == 2


def test_suspect_labels_are_written_before_a_recipe_takes_them():
    given, answer = {"recipe": "r", "labels": True}, {"run": "r", "out": None}
    assert "--out fixes.csv" in commands("audit", given, answer)[0]
    taken = commands("audit", given, {"run": "r", "out": "f.csv"})
    assert "data.corrections=f.csv" in taken[0]


def test_members_that_have_begun_are_trained_before_they_are_blended():
    begun = {"name": "cnn", "folds_done": 2, "folds": 5}
    answer = {
        "run": "r",
        "folder": "artifacts/r",
        "members": [begun],
        "blends": [],
        "submission": None,
    }
    assert commands("ls", {"run": "r"}, answer) == [
        "ens run artifacts/r/recipe.yaml --json"
    ]


def test_a_command_without_a_next_step_has_none():
    assert next_steps("schema", {}, {"title": "recipe"}) == []
    assert next_steps("", {}, {}) == []


@pytest.mark.parametrize(
    ("code", "words", "command"),
    [
        ("missing_run", ["evaluate", "nosuch"], "ens ls --json"),
        ("unknown_name", ["blend", "r", "--members", "x"], "ens ls r --json"),
        ("recipe", ["run", "r.yaml"], "ens schema --json"),
        ("data", ["run", "r.yaml"], "ens audit r.yaml --json"),
        ("changed_recipe", ["run", "r.yaml"], "ens run r.yaml --set name=NEW"),
        ("interrupted", ["run", "r.yaml", "--json"], "ens run r.yaml --json"),
        ("usage", ["blend"], "ens blend --help"),
        ("usage", [], "ens --help"),
    ],
)
def test_an_error_says_what_helps(code, words, command):
    (step,) = next_after_error(code, words)
    assert step["command"] == command


def test_an_error_whose_message_says_all_has_no_next_step():
    assert next_after_error("store", ["blend", "r"]) == []
    assert next_after_error("data", ["audit", "r.yaml"]) == []

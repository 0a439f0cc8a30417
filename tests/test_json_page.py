"""What docs/json.md promises of every command's JSON is what the commands print."""

import json
import re
import shlex
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import typer

from ensembler.cli.app import app

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
PAGE = (Path(__file__).parents[1] / "docs" / "json.md").read_text()
NEXT = "What makes sense next"  # a section about every answer
TYPES = {
    "text": str,
    "number": (int, float, type(None)),  # null where it is not finite
    "whole number": int,
    "true or false": bool,
    "text or null": (str, type(None)),
}
RECIPE = """
name: tiny
data: {source: shapes/train.csv, targets: label, test: shapes/test.csv}
folds: {count: 2, holdout: 0.1}
input: {size: 16}
augment: none
views: [identity]
defaults: {epochs: 1, batch_size: 16, amp: off}
members:
  cnn: {backbone: "tinynets:tiny"}
  broken: {backbone: "tinynets:tiny", lr: 1.0e+30}
  bag: {backbone: "tinynets:tiny", method: voting, estimators: 2}
submission: {columns: [id, label]}
"""

SEARCH = """
extends: recipe.yaml
name: search
tune: {member: cnn, space: {lr: [0.01, 0.02]}, trials: 2, keep: 1}
"""


def promised():
    """The blocks of the page by command, in their order."""
    found = {}
    for section in re.split(r"\n## ", PAGE)[1:]:
        title, _, rest = section.partition("\n")
        blocks = re.findall(r"```json\n(.*?)```", rest, re.DOTALL)
        found[title] = [json.loads(block) for block in blocks]
    return found


def differences(promise, value, where="$", *, whole=False):
    """Where an answer is not what the page says; with `whole`, also what it leaves out."""
    if isinstance(promise, str):
        return (
            []
            if isinstance(value, TYPES[promise])
            else [f"{where} is {value!r}: {promise}"]
        )
    if isinstance(promise, list):
        if not isinstance(value, list):
            return [f"{where} is no list"]
        places = enumerate(value)
        return [
            d for i, item in places for d in differences(promise[0], item, f"{where}[{i}]")
        ]
    if not isinstance(value, dict):
        return [f"{where} is no object"]
    if promise and all(key.startswith("<") for key in promise):
        (each,) = promise.values()
        return [
            d
            for key, item in value.items()
            for d in differences(each, item, f"{where}.{key}")
        ]
    return differences_of_objects(promise, value, where, whole=whole)


def differences_of_objects(promise, value, where, *, whole):
    found = []
    names = {key.removesuffix("?"): key for key in promise if key != "..."}
    for name, key in names.items():
        if key.endswith("?") and value.get(name) is None:
            continue
        if name not in value:
            found.append(f"{where}.{name} is missing")
            continue
        found += differences(promise[key], value[name], f"{where}.{name}")
    if whole and "..." not in promise:
        found += [
            f"{where}.{name} is not on the page" for name in value if name not in names
        ]
    return found


@pytest.fixture(scope="module")
def answers(workshop):
    """The answer of every command, by its title on the page."""
    from ensembler.demo.shapes import write_shapes
    from ensembler.predictions.testing import write_fake_run

    write_shapes(workshop / "shapes", n=60, seed=1)
    (workshop / "recipe.yaml").write_text(RECIPE)
    (workshop / "search.yaml").write_text(SEARCH)
    write_fake_run(workshop / "artifacts" / "fake", n_train=90)
    members = {"a": 0.7, "b": 0.9}
    write_fake_run(workshop / "artifacts" / "two", members, n_train=300, n_test=200)
    rows = [f"r{i},{'ab'[i % 2]},{i % 3}" for i in range(30)]
    (workshop / "labels.csv").write_text("\n".join(["id,label,fold", *rows]))
    (workshop / "test.csv").write_text("id\nt0\nt1\n")
    np.save(workshop / "oof.npy", np.full((30, 2), 0.5))
    np.save(workshop / "new.npy", np.full((2, 2), 0.5))
    with pytest.MonkeyPatch.context() as patch:
        yield {
            title: [answer(patch, line, expect) for line, expect in lines]
            for title, lines in COMMANDS.items()
        }


COMMANDS = {
    "An error": [("ls nosuch", 2)],
    "ens init": [("init shapes --out mine.yaml", 0)],
    "ens audit": [("audit recipe.yaml", 0), ("audit fake --labels --out fixes.csv", 0)],
    "ens kfold": [("kfold recipe.yaml", 1)],
    "ens bag": [("bag recipe.yaml", 0)],
    "ens ensemble": [("ensemble recipe.yaml", 0)],
    "ens plan": [("plan recipe.yaml", 0), ("plan recipe.yaml --deadline 1h", 0)],
    "ens run": [("run recipe.yaml", 1)],
    "ens tta-predict": [
        ("tta-predict tiny --views identity,hflip", 0),
        ("tta-predict tiny --data shapes/images --out new.csv", 0),
    ],
    "ens ablate": [("ablate recipe.yaml --member cnn --axis lr=1e-3,1e-2", 0)],
    "ens tune": [("tune search.yaml", 0)],
    "ens blend": [
        ("blend fake", 0),
        ("blend fake --method hard", 0),
        ("blend two --method single --members a", 0),
    ],
    "ens evaluate": [
        ("evaluate fake --over a", 0),
        ("evaluate fake", 0),
        ("evaluate fake --per class --confusion", 0),
        ("evaluate fake --conformal 0.9 --shift", 0),
    ],
    "ens report": [("report fake", 0)],
    "ens diversity": [("diversity fake", 0)],
    "ens folds": [("folds recipe.yaml --out split.csv", 0)],
    "ens share": [("share fake pool --author Ann", 0)],
    "ens pull": [("pull pool fake", 0)],
    "ens merge": [("merge fake two", 2)],
    "ens ls": [("ls fake", 0), ("ls tiny", 0), ("ls pool", 0)],
    "ens pack": [("pack tiny --with-code tinynets.py", 0)],
    "ens predict": [("predict tiny.ens shapes/images --trust-code", 0)],
    "ens submit": [
        ("submit fake --blend auto", 0),
        ("submit two --second --blend single", 0),
    ],
    "ens history": [("history fake", 0), ("history fake --set-score 1 0.5", 0)],
    "ens replay": [("replay fake 1", 0)],
    "ens distill": [
        ("distill tiny --student tinynets:tiny --blend auto --option epochs=1", 0)
    ],
    "ens frontier": [("frontier tiny --blend auto", 0)],
    "ens reproduce": [("reproduce tiny --member cnn --fold 0", 0)],
    "ens import": [
        (
            "import mine --labels labels.csv --member x=oof.npy,new.npy --test-ids test.csv"
            " --by-position",
            0,
        )
    ],
    "ens export": [
        ("export fake --member a --format csv --out out", 0),
        ("export tiny --format torch --out out/tiny.pt2", 0),
    ],
    "ens doctor": [("doctor", 0), ("doctor --gpu --device cpu", 0)],
    "ens schema": [("schema", 0)],
    "ens guide": [("guide", 0)],
    "ens mcp": [("mcp", 0)],
    "ens demo-data": [("demo-data shapes drawn --n 10", 0)],
}


def answer(patch, line, expect):
    """The one JSON object that a command prints, run in this process."""
    import contextlib
    import io
    import signal

    from ensembler.cli.app import main

    patch.setattr(sys, "argv", ["ens", *line.split(), "--json"])
    out, handler = io.StringIO(), signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as left, contextlib.redirect_stdout(out):
        main()
    signal.signal(signal.SIGTERM, handler)
    assert left.value.code == expect, f"{line}: {out.getvalue()}"
    return json.loads(out.getvalue())


def test_every_command_is_on_the_page():
    commands = {f"ens {command.name}" for command in app.registered_commands}
    assert {"An error", *commands} == set(COMMANDS)
    assert set(promised()) == {NEXT, *COMMANDS}


@pytest.fixture(scope="module")
def steps(answers):
    """What makes sense next after each answer, by title."""
    return {
        title: list(chain.from_iterable(a.get("next", ()) for a in printed))
        for title, printed in answers.items()
    }


def test_what_comes_next_can_be_given(steps):
    """Every command of `next` is one, with options that it has."""
    group = typer.main.get_command(app)
    for title, found in steps.items():
        for step in found:
            name, command, *words = shlex.split(step["command"])
            assert name == "ens", title
            if command != "--help":
                group.commands[command].make_context(command, words)


def test_what_comes_next_is_as_the_page_says(steps):
    (block,) = promised()[NEXT]
    for found in steps.values():
        assert differences(block, {"next": found}, whole=True) == []


@pytest.mark.parametrize(
    "title", ["init", "audit", "plan", "run", "kfold", "blend", "evaluate", "ls", "import"]
)
def test_the_way_to_a_submission_is_said_at_every_step(steps, title):
    assert steps[f"ens {title}"]


@pytest.mark.parametrize("title", COMMANDS)
def test_the_page_says_what_a_command_prints(answers, title):
    blocks = promised()[title]
    said = [
        {k: v for k, v in a.items() if k != "next" or title == "An error"}
        for a in answers[title]
    ]
    for block in blocks:
        found = [differences(block, printed, whole=True) for printed in said]
        assert min(found, key=len) == [], title
    if len(blocks) == 1:
        for printed in said:
            assert differences(blocks[0], printed, whole=True) == []


def test_what_the_page_does_not_say_is_found():
    promise = {"a": "whole number", "b?": "text", "c": [{"d": "number"}]}
    assert differences(promise, {"a": 1, "c": [{"d": None}]}, whole=True) == []
    wrong = {"a": "x", "b": 1, "c": [{}], "e": 0}
    assert len(differences(promise, wrong, whole=True)) == 4

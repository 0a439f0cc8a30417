"""An agent that knows nothing but `ens guide` and what JSON says goes from pictures to a submission."""

import contextlib
import io
import json
import re
import shlex
import signal
import sys

import pandas as pd
import pytest

from ensembler.cli.app import main

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
# What the agent decides by itself: the guide says how a trial is made small.
TRIAL = ["defaults.epochs=1", "input.size=32", "folds.count=2"]


class Agent:
    """Gives commands, reads one JSON object each, and keeps what it was told to do next."""

    def __init__(self, patch):
        self.patch = patch
        self.said = []

    def give(self, line):
        words = shlex.split(line)
        self.patch.setattr(sys, "argv", words)
        out, handler = io.StringIO(), signal.getsignal(signal.SIGTERM)
        with pytest.raises(SystemExit) as left, contextlib.redirect_stdout(out):
            main()
        signal.signal(signal.SIGTERM, handler)
        answer = json.loads(out.getvalue())
        self.said.append((line, left.value.code, answer))
        return answer

    def follow(self, answer, command):
        """The step of an answer that gives a command."""
        steps = [step["command"] for step in answer["next"]]
        return next(step for step in steps if step.split()[1] == command)


def test_from_a_folder_of_pictures_to_a_submission(workshop, monkeypatch):
    from ensembler.demo.shapes import write_shapes

    write_shapes(workshop / "shapes", n=60, seed=1)
    agent = Agent(monkeypatch)
    guide = agent.give("ens guide --json")
    first = re.search(r"^ +(ens init DATA --json)", guide["guide"], re.MULTILINE)[1]
    made = agent.give(first.replace("DATA", "shapes"))
    audited = agent.give(agent.follow(made, "audit"))
    assert all(finding["severity"] != "error" for finding in audited["findings"])
    small = " ".join(f"--set {option}" for option in TRIAL)
    backbone = "--set members.resnet.backbone=test_resnet"
    names = re.findall(
        r"^  (\w[\w-]*): *\{?backbone", (workshop / made["recipe"]).read_text(), re.M
    )
    backbones = " ".join(f"--set members.{name}.backbone=test_resnet" for name in names)
    planned = agent.give(f"{agent.follow(audited, 'plan')} {small} {backbones or backbone}")
    assert planned["next"][0]["seconds"] > 0
    ran = agent.give(f"{agent.follow(planned, 'run')} {small} {backbones or backbone}")
    evaluated = agent.give(agent.follow(ran, "evaluate"))
    assert any(row["submitted"] for row in evaluated["rows"])
    assert [code for _, code, _ in agent.said] == [0] * len(agent.said)
    submission = pd.read_csv(ran["submission"])
    template = pd.read_csv(workshop / "shapes" / "test.csv")
    assert len(submission) == len(template)

"""What makes sense after an answer or an error: the `next` of every `--json` object.

A step is a command that can be given as it is, or with its words in capitals replaced, and why.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """One command that makes sense now; `seconds` are what it will take, where that is known."""

    command: str
    why: str
    seconds: float | None = None

    def to_json(self) -> dict[str, Any]:
        """As an entry of `next`."""
        step: dict[str, Any] = {"command": self.command, "why": self.why}
        return step if self.seconds is None else {**step, "seconds": self.seconds}


@dataclass(frozen=True)
class Asked:
    """A command that was given: its name, its options and arguments by name, and its answer."""

    command: str
    given: Mapping[str, Any]
    answer: Mapping[str, Any]

    def step(self, words: Sequence[object], why: str, seconds: float | None = None) -> Step:
        """A step of `ens`, in the same folder of runs."""
        artifacts = self.given.get("artifacts")
        where = [] if artifacts is None else ["--artifacts", str(artifacts)]
        texts = ["ens", *map(str, words), *where]
        return Step(shlex.join(texts), why, seconds)

    @property
    def run(self) -> str:
        """The run that the answer is of, or that was named."""
        return str(self.answer.get("run") or self.given.get("run") or "RUN")

    @property
    def recipe(self) -> str:
        """The recipe that was named, or else written."""
        return str(self.given.get("recipe") or self.answer.get("recipe") or "RECIPE")


def next_steps(
    command: str, given: Mapping[str, Any], answer: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """What makes sense after the answer of a command; nothing where that is open."""
    follow = _FOLLOWS.get(command)
    if follow is None:
        return []
    return [step.to_json() for step in follow(Asked(command, given, answer))]


def _after_init(asked: Asked) -> list[Step]:
    return [
        asked.step(["audit", asked.recipe, "--json"], "check the data before training"),
        asked.step(
            ["plan", asked.recipe, "--json"], "what will run, and how long it takes"
        ),
        asked.step(["run", asked.recipe, "--json"], "train, predict, blend and submit"),
    ]


def _after_audit(asked: Asked) -> list[Step]:
    if asked.given.get("labels"):
        return _after_label_audit(asked)
    steps = []
    for finding in asked.answer.get("findings", ()):
        if finding["severity"] == "error":
            why = f"once fixed: {finding['message']}; {finding['fix']}"
            steps.append(asked.step(["audit", asked.recipe, "--json"], why))
            break
    return [
        *steps,
        asked.step(
            ["plan", asked.recipe, "--json"], "what will run, and how long it takes"
        ),
        asked.step(["run", asked.recipe, "--json"], "train, predict, blend and submit"),
    ]


def _after_label_audit(asked: Asked) -> list[Step]:
    out = asked.answer.get("out")
    if out is None:
        words = ["audit", asked.run, "--labels", "--out", "fixes.csv", "--json"]
        return [asked.step(words, "write the suspects, for a person to look at and edit")]
    words = ["run", "RECIPE", "--set", f"data.corrections={out}", "--set", "name=NEW"]
    why = "train with the labels that a person has confirmed; not with the list as it is"
    return [asked.step([*words, "--json"], why)]


def _after_plan(asked: Asked) -> list[Step]:
    deadline = asked.given.get("deadline")
    words = ["run", asked.recipe, "--json"]
    if deadline is not None:
        words += ["--deadline", deadline]
    seconds = asked.answer.get("seconds")
    return [asked.step(words, "do what is planned", seconds)]


def _after_run(asked: Asked) -> list[Step]:
    steps = []
    if asked.answer.get("stopped") is not None:
        again = ["run", asked.recipe, "--json"]
        steps.append(asked.step(again, "resume: nothing finished is done again"))
    if asked.answer.get("failures"):
        steps.append(
            asked.step(["ls", asked.run, "--json"], "which members failed, and why")
        )
    if asked.answer.get("blend") is None:
        return steps
    return [
        *steps,
        asked.step(["evaluate", asked.run, "--json"], "members and blends side by side"),
        asked.step(["audit", asked.run, "--labels", "--json"], "which labels are wrong"),
        asked.step(["history", asked.run, "--json"], "every submission there was"),
    ]


def _after_training(asked: Asked) -> list[Step]:
    if asked.answer.get("incomplete"):
        words = [asked.command, asked.recipe, "--json"]
        return [asked.step(words, "train the folds that are missing")]
    return [_blend(asked)]


def _blend(asked: Asked) -> Step:
    words = ["blend", asked.run, "--submit", "--json"]
    return asked.step(words, "blend the members, honestly scored, and submit the blend")


def _after_blend(asked: Asked) -> list[Step]:
    steps = [
        asked.step(["evaluate", asked.run, "--json"], "members and blends side by side")
    ]
    if not asked.answer.get("submitted"):
        words = ["submit", asked.run, "--blend", asked.answer.get("name", "NAME"), "--json"]
        steps.append(asked.step(words, "make this blend the submission"))
    return steps


def _after_evaluate(asked: Asked) -> list[Step]:
    kinds = {row["kind"] for row in asked.answer.get("rows", ())}
    if "blend" not in kinds:
        return [_blend(asked)]
    return [
        asked.step(
            ["diversity", asked.run, "--json"], "which members differ, and what they add"
        ),
        asked.step(["submit", asked.run, "--json"], "write the submission again"),
    ]


def _after_ls(asked: Asked) -> list[Step]:
    if "runs" in asked.answer:
        return _after_ls_of_all(asked)
    if "members" not in asked.answer or "submission" not in asked.answer:
        return []  # a pool
    begun = [m["name"] for m in asked.answer["members"] if m["folds_done"] < m["folds"]]
    steps = []
    if begun:
        recipe = f"{asked.answer.get('folder', asked.run)}/recipe.yaml"
        steps.append(
            asked.step(["run", recipe, "--json"], "train the folds that are missing")
        )
    if asked.answer.get("blends"):
        words = ["evaluate", asked.run, "--json"]
        return [*steps, asked.step(words, "members and blends side by side")]
    return [*steps, _blend(asked)] if len(begun) < len(asked.answer["members"]) else steps


def _after_ls_of_all(asked: Asked) -> list[Step]:
    runs = [listing["run"] for listing in asked.answer["runs"]]
    if runs:
        return [asked.step(["ls", runs[-1], "--json"], "what is in a run")]
    return [
        asked.step(["init", "DATA", "--json"], "look at a folder or CSV; write a recipe")
    ]


def _after_submit(asked: Asked) -> list[Step]:
    return [
        asked.step(["history", asked.run, "--json"], "every submission there was"),
        asked.step(
            ["pack", asked.run, "--json"], "the ensemble as one file, for new images"
        ),
    ]


def _after_history(asked: Asked) -> list[Step]:
    versions = asked.answer.get("versions") or ()
    if not versions:
        return [_blend(asked)]
    words = ["replay", asked.run, versions[-1]["n"], "--json"]
    return [asked.step(words, "write one of them again")]


def _after_pack(asked: Asked) -> list[Step]:
    words = ["predict", asked.answer.get("bundle", "BUNDLE"), "IMAGES", "--json"]
    return [asked.step(words, "predict new images")]


def _to_blend(asked: Asked) -> list[Step]:
    return [_blend(asked)]


def _to_evaluate(asked: Asked) -> list[Step]:
    return [
        asked.step(["evaluate", asked.run, "--json"], "members and blends side by side")
    ]


def _after_doctor(asked: Asked) -> list[Step]:
    return [
        asked.step(["init", "DATA", "--json"], "look at a folder or CSV; write a recipe")
    ]


def _after_share(asked: Asked) -> list[Step]:
    words = ["ls", asked.given.get("target") or "POOL", "--json"]
    return [asked.step(words, "everybody's members, and what each would add")]


_FOLLOWS: dict[str, Callable[[Asked], list[Step]]] = {
    "init": _after_init,
    "audit": _after_audit,
    "plan": _after_plan,
    "run": _after_run,
    "kfold": _after_training,
    "bag": _after_training,
    "ensemble": _after_training,
    "tta-predict": _to_blend,
    "blend": _after_blend,
    "evaluate": _after_evaluate,
    "diversity": _to_blend,
    "ls": _after_ls,
    "submit": _after_submit,
    "history": _after_history,
    "replay": _after_submit,
    "distill": _to_evaluate,
    "tune": _to_blend,
    "import": _to_blend,
    "pull": _to_blend,
    "merge": _to_blend,
    "share": _after_share,
    "pack": _after_pack,
    "doctor": _after_doctor,
    "guide": _after_doctor,
    "demo-data": _after_init,
}


def next_after_error(code: str, words: Sequence[str]) -> list[dict[str, Any]]:
    """What makes sense after an error with that code of the command line `words` (`ens` left out).

    Nothing where the message says all there is to do.
    """
    command = words[0] if words and not words[0].startswith("-") else ""
    subject = next((word for word in words[1:] if not word.startswith("-")), "")
    step = _after_code(code, command, subject, words)
    return [] if step is None else [step.to_json()]


def _after_code(code: str, command: str, subject: str, words: Sequence[str]) -> Step | None:
    if code == "usage":
        text = shlex.join(["ens", *([command] if command else []), "--help"])
        return Step(text, "what may be given")
    if code == "missing_run":
        return Step("ens ls --json", "which runs there are")
    if code in ("unknown_name", "missing_file") and command in _OF_RUNS and subject:
        return Step(shlex.join(["ens", "ls", subject, "--json"]), "what is in the run")
    if code == "recipe":
        return Step("ens schema --json", "every key that a recipe may have")
    if (
        code in ("data", "unreadable", "missing", "folds", "group_leak")
        and command != "audit"
    ):
        return Step(
            f"ens audit {shlex.quote(subject or 'RECIPE')} --json", "all faults of the data"
        )
    if code == "changed_recipe":
        return Step(
            shlex.join(["ens", *words, "--set", "name=NEW"]), "a run of another name"
        )
    if code == "interrupted":
        return Step(shlex.join(["ens", *words]), "resume: nothing finished is done again")
    if code in ("out_of_memory", "device_lost", "disk_full", "missing_extra"):
        return Step("ens doctor --json", "what this machine has, and what is installed")
    return None


_OF_RUNS = (
    "audit",
    "blend",
    "diversity",
    "evaluate",
    "export",
    "frontier",
    "history",
    "ls",
    "pack",
    "replay",
    "submit",
    "tta-predict",
)

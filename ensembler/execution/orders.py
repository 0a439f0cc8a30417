"""What is said between a run, the driver of its cluster and the nodes that train folds.

Lines of JSON, but for the files of a fold, which nodes return as bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from ensembler.progress import (
    Epoch,
    FailedMessage,
    Message,
    NoteMessage,
    StepMessage,
    WarningMessage,
)

_MESSAGES = {
    kind.__name__: kind
    for kind in (Epoch, StepMessage, FailedMessage, NoteMessage, WarningMessage)
}


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Start(_Said):
    """How a driver starts or finds its cluster, and what a fold takes of a node."""

    address: str | None
    cpus: int
    threads: int
    gpus: float | None
    folder: str
    package: str | None


class Look(_Said):
    """What nodes are asked before the first fold.

    They look for a file with a `token`, which is in the run's folder, and open a few images.
    """

    probe: str
    token: str
    images: tuple[str, ...]


class Node(_Said):
    """What a node answers: what it has, which `versions`, and what it sees of the run."""

    name: str
    slots: int
    versions: dict[str, str]
    sees_run: bool
    problem: str | None = None


class Order(_Said):
    """One fold to train.

    In the run's `folder` where the node sees it, else in one of the node's own that begins with
    `files` of the run. `has_folds` says whether other folds can be submitted.
    """

    number: int
    run: str
    training: str
    fold: int
    members: tuple[str, ...]
    folder: str | None
    files: dict[str, str]
    code: tuple[str, ...]
    threads: int
    device: str
    workers: int | None
    engine: str | None
    seconds_left: float | None


class Answer(_Said):
    """What became of a fold; `files` by member and name, with where the driver has put them."""

    outcome: Literal["finished", "left_out", "failed", "nothing"]
    message: str = ""
    fold: int = 0
    was_trained: bool = False
    is_short: bool = False
    files: dict[str, dict[str, str]] = {}


def described(message: Message) -> dict[str, Any] | None:
    """A message of progress as plain values; None for one that is not sent on."""
    kind = type(message).__name__
    if kind not in _MESSAGES:
        return None
    return {"kind": kind, "of": asdict(message)}  # type: ignore[call-overload]  # all are dataclasses


def message_of(content: Mapping[str, Any]) -> Message:
    """The message of progress that `described` gave."""
    kind = _MESSAGES[content["kind"]]
    message: Message = kind(**content["of"])
    return message


def line(kind: str, content: BaseModel | Mapping[str, Any] | None = None) -> bytes:
    """One line that says something of a `kind`."""
    plain = content.model_dump(mode="json") if isinstance(content, BaseModel) else content
    return json.dumps({"kind": kind, "content": plain or {}}).encode() + b"\n"

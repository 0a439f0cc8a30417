"""What is shared of a recipe: everything but where things lie on its author's machine."""

from __future__ import annotations

import json
from pathlib import PurePosixPath
from typing import Any

from ensembler.predictions.members import MemberRecord
from ensembler.predictions.store import RunStore


def shareable_recipe(store: RunStore) -> bytes | None:
    """The resolved recipe of a run as JSON, which is YAML; None for a run without one."""
    if not store.lock.recipe:
        return None
    return json.dumps(without_paths(store.lock.recipe), indent=2).encode() + b"\n"


def without_paths_in(record: MemberRecord) -> MemberRecord:
    """A member's record whose options and environments say no path of its author's machine."""
    return record.model_copy(
        update={
            key: without_paths(getattr(record, key))
            for key in ("options", "environments")
            if key in record.model_fields_set
        }
    )


def without_paths(value: Any) -> Any:
    """The same values, with the last part of each absolute path alone."""
    if isinstance(value, dict):
        return {key: without_paths(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(without_paths, value))
    if not isinstance(value, str):
        return value
    scheme, colon, rest = value.partition(":")
    path = rest if colon and rest.startswith("/") else value
    if not path.startswith("/"):
        return value
    return (
        f"{scheme}:{PurePosixPath(path).name}" if path is rest else PurePosixPath(path).name
    )

"""Records of the store as JSON files, checked once when they are read."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from ensembler.errors import StoreError
from ensembler.files import read_json

R = TypeVar("R", bound=BaseModel)


def read_record(path: Path, model: type[R]) -> R:
    """Read a record; a StoreError names the file and the first key that does not fit."""
    content = read_json(path)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise StoreError(
            f"{path}: {key}: {first['msg'].lower()}; the file was altered or written by hand"
        ) from error

"""Records of the store as JSON files: each is one frozen model that checks and writes it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import PydanticUseDefault

from ensembler.errors import StoreError
from ensembler.files import read_json, write_json

R = TypeVar("R", bound=BaseModel)
T = TypeVar("T")


def _or_default(value: object, check: ValidatorFunctionWrapHandler) -> object:
    try:
        return check(value)
    except ValidationError:
        raise PydanticUseDefault from None


# What nothing depends on: where another tool writes something else under the key, it is not said.
Information = Annotated[T, WrapValidator(_or_default)]


class Record(BaseModel):
    """A part of a JSON file of the store: frozen; keys of other versions and tools are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")

    def to_json(self) -> dict[str, Any]:
        """As plain values that JSON can hold; what was not said is left out."""
        return {str(key): plain(value) for key, value in self.said().items()}

    def said(self) -> dict[str, Any]:
        """What was said, without the defaults of what was not."""
        return self.model_dump(by_alias=True, exclude_unset=True)


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


def write_record(path: Path, record: Record) -> None:
    """Write a record, whole or not at all."""
    write_json(path, record.to_json())


def plain(value: Any) -> Any:
    """The same values as JSON can hold them: numbers that are not finite become None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()  # a number of numpy
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

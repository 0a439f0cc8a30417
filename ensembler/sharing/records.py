"""What a pool says of itself and of its members: JSON that was written by somebody else."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from ensembler.errors import RequestError, StoreError
from ensembler.files import check_name
from ensembler.plain_text import check_plain_text
from ensembler.predictions.members import MemberRecord
from ensembler.predictions.records import Record
from ensembler.sharing.layout import is_sha256

R = TypeVar("R", bound=BaseModel)

MOST_RECORD_BYTES = 1_000_000
MOST_AUTHOR = 100  # characters
MOST_NOTE = 1000


def _sha256(text: str) -> str:
    if not is_sha256(text):
        raise ValueError(f"{text[:80]!r} is not a sha256")
    return text


def _member_name(name: str) -> str:
    return check_name("member", name)


def _line(text: str) -> str:
    check_plain_text([text.replace("\n", " ")], "text", "a pool's record")
    return text


Sha256 = Annotated[str, AfterValidator(_sha256)]
MemberName = Annotated[str, AfterValidator(_member_name)]
Author = Annotated[str, Field(min_length=1, max_length=MOST_AUTHOR), AfterValidator(_line)]
Note = Annotated[str, Field(max_length=MOST_NOTE), AfterValidator(_line)]


class PoolRecord(Record):
    """What `ens-pool.json` says."""

    format: Literal[1] = 1


class Blob(BaseModel):
    """A file of a pool: what it holds, and how many bytes that are."""

    model_config = ConfigDict(frozen=True)

    sha256: Sha256
    size: int = Field(ge=0)


class SharedMember(Record):
    """A member in a pool.

    `member` is its `member.json`, `files` are its arrays (and weights, when its author shared
    them) by the names that they have in a run. `split` is the sha256 of the samples.csv that its
    rows are those of, `data` a digest of the data that it was trained on where that is known.
    """

    format: Literal[1] = 1
    name: MemberName
    author: Author
    note: Note | None = None
    split: Sha256
    data: str | None = None
    member: MemberRecord
    files: dict[str, Blob]
    recipe: Blob | None = None

    @property
    def has_weights(self) -> bool:
        """Whether its networks are in the pool, too."""
        return any(file.endswith(".safetensors") for file in self.files)

    @property
    def bytes(self) -> int:
        """How many bytes its files have."""
        return sum(blob.size for blob in self.files.values())


def content_of(record: Record) -> bytes:
    """A record as the bytes of its file: equal records give equal bytes."""
    text = json.dumps(record.to_json(), sort_keys=True, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def parsed(content: bytes, model: type[R], where: str) -> R:
    """A record that somebody else wrote; StoreError says what does not fit."""
    try:
        said: Any = json.loads(content)
        return model.model_validate(said)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise StoreError(f"{where}: {key}: {first['msg'].lower()}") from error
    except RequestError as error:
        raise StoreError(f"{where}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise StoreError(f"{where} is not readable JSON ({error})") from error

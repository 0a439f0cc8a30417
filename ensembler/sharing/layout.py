"""Where everything in a pool lies.

    ens-pool.json                                 this is a pool; its format
    splits/<sha256>/samples.csv                   rows, labels and folds of members
    blobs/<aa>/<sha256>                           arrays, weights, recipes: a file by its content
    members/<split>/<name>--<16 digits>.json      a member's record, named after its own content

Every name says what the content is, so nothing is ever changed, nobody waits for anybody, and
members of the same name by two authors stay beside each other. A record is written after the files
that it names: what has no record is not there.
"""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

SPLITS = "splits"
BLOBS = "blobs"
MEMBERS = "members"
_DIGITS = 16  # of a record's sha256 in its name
_SHA256 = re.compile(r"[0-9a-f]{64}")
_RECORD_NAME = re.compile(r"(?P<name>.+)--(?P<digits>[0-9a-f]{16})\.json")


class RecordName(NamedTuple):
    """What the name of a member's record says."""

    name: str
    digits: str


def is_sha256(text: object) -> bool:
    """Whether a text is a sha256 in hexadecimal, and with that safe as a file's name."""
    return isinstance(text, str) and _SHA256.fullmatch(text) is not None


def digest(content: bytes) -> str:
    """The sha256 of a content, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def blob_path(sha256: str) -> str:
    """Where the file of that content lies."""
    return f"{BLOBS}/{sha256[:2]}/{sha256}"


def samples_path(split: str) -> str:
    """Where the rows of a split lie."""
    return f"{SPLITS}/{split}/samples.csv"


def members_folder(split: str) -> str:
    """Where the records of the members of a split lie."""
    return f"{MEMBERS}/{split}"


def record_file(name: str, content: bytes) -> str:
    """What the record of a member is called, whose content that is."""
    return f"{name}--{digest(content)[:_DIGITS]}.json"


def parsed_record_file(file: str) -> RecordName | None:
    """The parts of a record's name; None for what is none."""
    found = _RECORD_NAME.fullmatch(file)
    return None if found is None else RecordName(found["name"], found["digits"])

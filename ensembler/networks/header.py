"""What is written in the header of a file of weights, read without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ensembler.errors import MissingFileError, StoreError

FORMAT = 1
# Key in the header: the digest of the header and the tensors at the moment of saving.
DIGEST = "content_sha256"


def read_description(path: Path) -> dict[str, Any]:
    """The description in a checkpoint's header; StoreError when the file is none of ours."""
    try:
        with safe_open(path, "numpy") as file:
            header = json.loads((file.metadata() or {})["ensembler"])
    except FileNotFoundError as error:
        raise MissingFileError(f"{path} is missing") from error
    except (
        SafetensorError,
        KeyError,
        TypeError,
        ValueError,
        RecursionError,
        OSError,
    ) as error:
        raise StoreError(
            f"{path} is not a whole checkpoint of a member ({error})"
        ) from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise StoreError(
            f"{path} has another format than {FORMAT}; it was written by another version"
        )
    return header

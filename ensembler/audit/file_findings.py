"""Problems of image files: broken, empty, blank or tiny, mixed colours, unused levels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ensembler.audit.facts import ImageFacts
from ensembler.audit.findings import Finding, Severity
from ensembler.data.formats import DEEP_MODES
from ensembler.data.samples import SampleSet

TINY = 8  # pixels of the shorter side
_GREY_MODES = ("L", "1", "I;16", "I", "F", "LA")
_MOST_BITS = 14  # with more, enough of the levels are left
_SEARCHED = 200  # files
_FIX_BY_HAND = "look at them, and leave them out of the table"


def find_faulty_files(
    samples: SampleSet, facts: ImageFacts, *, on_broken: str
) -> Iterator[Finding]:
    """Images that are broken, empty, blank or tiny, and modes that are mixed."""
    empty = facts.fault_code == "empty"
    yield from _broken(samples, facts, empty, "empty", "have no byte in them", on_broken)
    unreadable = ~facts.readable & ~empty
    yield from _broken(
        samples, facts, unreadable, "unreadable", "cannot be read", on_broken
    )
    if facts.blank.any():
        message = f"{_files(facts.blank)} show one colour and nothing else"
        yield Finding(
            "blank", "warning", message, _FIX_BY_HAND, _names(samples, facts.blank)
        )
    tiny = facts.readable & (np.minimum(facts.width, facts.height) < TINY)
    if tiny.any():
        message = f"{_files(tiny)} have a side of less than {TINY} pixels"
        yield Finding("tiny", "warning", message, _FIX_BY_HAND, _names(samples, tiny))
    grey = np.isin(facts.mode, _GREY_MODES) & facts.readable
    if grey.any() and not grey[facts.readable].all():
        message = (
            f"{_files(grey)} are grey and the others in colour: "
            "a network may learn the difference"
        )
        yield Finding(
            "mixed_modes", "note", message, "input: {channels: 1}", _names(samples, grey)
        )


def _broken(
    samples: SampleSet,
    facts: ImageFacts,
    rows: NDArray[np.bool_],
    code: str,
    what: str,
    on_broken: str,
) -> Iterator[Finding]:
    if not rows.any():
        return
    reason = Counter(facts.fault[rows].tolist()).most_common(1)[0][0]
    message = f"{_files(rows)} {what} ({reason})"
    severity: Severity = "error" if on_broken == "stop" else "warning"
    yield Finding(code, severity, message, "data: {on_broken: skip}", _names(samples, rows))


def find_unused_levels(
    samples: SampleSet, facts: ImageFacts, bits: int | None
) -> Iterator[Finding]:
    """Files of 16 bits that use the lower part of them alone, as those of 12-bit cameras do."""
    is_deep = np.isin(facts.mode, ("I", *DEEP_MODES))
    deep = np.flatnonzero(is_deep)
    if (
        bits is not None
        or not len(deep)
        or facts.thumb[deep].max() > _highest_of(_MOST_BITS)
    ):
        return
    # Thumbnails average: the highest level itself is looked for in some of the files.
    drawn = np.random.default_rng(0).permutation(deep)[:_SEARCHED]
    highest = max(int(samples.images.read(int(i)).max()) for i in drawn)
    fitting = next((b for b in range(9, _MOST_BITS + 1) if highest <= _highest_of(b)), None)
    if fitting is None:
        return
    message = (
        f"{_files(is_deep)} of 16 bits use the levels of {fitting} bits alone, which leaves "
        f"{highest + 1} of 256 grey levels to the networks"
    )
    fix = f"input: {{bits: {fitting}}}"
    names = _names(samples, is_deep)
    yield Finding("narrow_range", "warning", message, fix, names, {"bits": fitting})


def _highest_of(bits: int) -> int:
    """The highest of 256 levels that the highest of `bits` bits becomes where 16 are meant."""
    return round((2**bits - 1) / 257)


def _files(rows: NDArray[np.bool_]) -> str:
    n = int(rows.sum())
    return "1 file" if n == 1 else f"{n} files"


def _names(samples: SampleSet, rows: NDArray[np.bool_]) -> tuple[str, ...]:
    table = samples.table
    paths = table["path"].where(table["path"] != "", table["id"])
    return tuple(paths[rows])

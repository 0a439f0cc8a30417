"""What can go wrong, as one small tree.

Every error says what was given, what was expected and what to do next. EnsemblerError
exit code 1: the work failed ├── StoreError                  a file of a run is altered, short or
does not fit the others │   ├── MissingFileError        a file or array that was never made (also
FileNotFoundError) │   └── NotFiniteError          logits of a network that are not finite ├──
TrainingError               a network could not be trained (loss not finite, ...) ├──
OutOfMemoryError            a network needs more memory than there is (also MemoryError) ├──
DiskFullError               no room left; what is finished is safe (also OSError) └── RequestError
exit code 2: the request was wrong (also ValueError) ├── RecipeError             a recipe that
cannot be run, with all its problems at once ├── DataError               a table, label or image
that cannot be used ├── UnknownNameError        a name that is not there, with the nearest that are
├── NotFittedError          a blend method that predicts before it is fitted (also AttributeError)
├── ChangedRecipeError      a run folder that belongs to another recipe └── MissingExtraError
a part of the package that is not installed (also ImportError)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class EnsemblerError(Exception):
    """The work failed; the message is meant for the user."""

    exit_code = 1


class StoreError(EnsemblerError):
    """A file of a run is altered, short or does not fit the others."""


class MissingFileError(StoreError, FileNotFoundError):
    """A file or array of a run that was never made."""


class TrainingError(EnsemblerError):
    """A network could not be trained."""


class OutOfMemoryError(EnsemblerError, MemoryError):
    """A network needs more memory than there is."""


class NotFiniteError(StoreError):
    """The network called `network` gives logits that are not finite."""

    def __init__(self, network: str) -> None:
        super().__init__(f"{network}: its network gives logits that are not finite")
        self.network = network


class DiskFullError(EnsemblerError, OSError):
    """There is no room left where a run is written."""


class RequestError(EnsemblerError, ValueError):
    """The request was wrong; nothing was done."""

    exit_code = 2


class DataError(RequestError):
    """A table, label or image that cannot be used."""


class RecipeError(RequestError):
    """A recipe that cannot be run; `problems` holds one line for each fault, with its place."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


class MissingRunError(RequestError, FileNotFoundError):
    """A run that is not there."""


class ChangedRecipeError(RequestError):
    """A run folder that belongs to another recipe."""


class NotFittedError(RequestError, AttributeError):
    """A blend method that is asked to predict before it is fitted."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"this {what} is not fitted yet; call fit(stack, y) before predict_proba(stack)"
        )


class MissingExtraError(RequestError, ImportError):
    """A part of the package that is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs the extra '{extra}': pip install 'ensembler-toolkit[{extra}]'"
        )


class UnknownNameError(RequestError, LookupError):
    """A name that is not there."""

    def __init__(self, kind: str, name: object, known: Iterable[str]) -> None:
        super().__init__(f"unknown {kind} {str(name)!r}; {nearest(str(name), known)}")


def nearest(name: str, known: Iterable[str], *, most: int = 12) -> str:
    """Say which known names are closest to `name`, or list the known ones."""
    names = list(dict.fromkeys(str(k) for k in known))
    if not names:
        return "there are none"
    by_case = {n.lower(): n for n in names}
    close = difflib.get_close_matches(name.lower(), list(by_case), n=3, cutoff=0.6)
    if close:
        return "did you mean " + " or ".join(repr(by_case[c]) for c in close) + "?"
    listed = ", ".join(names[:most])
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"choose from {listed}{more}"

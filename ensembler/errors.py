"""What can go wrong, as one small tree.

Every error says what was given, what was expected and what to do next. The message is for people:
a decision reads the class of an error, or its `code`, and never the wording.

    EnsemblerError                  exit code 1: the work failed
    ├── StoreError                  a file of a run is altered, short or does not fit the others
    │   ├── MissingFileError        a file or array that was never made (also FileNotFoundError)
    │   └── NotFiniteError          logits of a network that are not finite
    ├── TrainingError               a network could not be trained (loss not finite, ...)
    ├── OutOfMemoryError            a network needs more memory than there is (also MemoryError)
    ├── DeviceLostError             a device that computes nothing more
    ├── DiskFullError               no room left; what is finished is safe (also OSError)
    ├── NotKeptError                a fitted blend whose state no file can hold
    └── RequestError                exit code 2: the request was wrong (also ValueError)
        ├── RecipeError             a recipe that cannot be run, with all its problems at once
        ├── DataError               a table or label that cannot be used
        │   ├── ImageError          an image that cannot be read, with its fault and a code for it
        │   ├── FoldsError          a split into folds that the labels or groups do not allow
        │   └── GroupLeakError      a group in several folds
        ├── MissingRunError         a run that does not exist (also FileNotFoundError)
        ├── BundleError             a bundle that is cut short, altered, of another version
        │   └── MissingBundleError  a bundle that does not exist (also FileNotFoundError)
        ├── UnknownNameError        a name that does not exist, with the nearest that do
        ├── NotFittedError          a blend method used before its fit (also AttributeError)
        ├── ChangedRecipeError      a run folder that belongs to another recipe
        └── MissingExtraError       a part of the package that is not installed (also ImportError)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Literal


class EnsemblerError(Exception):
    """The work failed; the message is meant for the user, `code` for programs."""

    exit_code = 1
    code = "failed"


class StoreError(EnsemblerError):
    """A file of a run is altered, short or does not fit the others."""

    code = "store"


class MissingFileError(StoreError, FileNotFoundError):
    """A file or array of a run that was never made."""

    code = "missing_file"


class TrainingError(EnsemblerError):
    """A network could not be trained."""

    code = "training"


class OutOfMemoryError(EnsemblerError, MemoryError):
    """A network needs more memory than there is."""

    code = "out_of_memory"


class NotFiniteError(StoreError):
    """The network called `network` gives logits that are not finite."""

    code = "not_finite"

    def __init__(self, network: str) -> None:
        super().__init__(f"{network}: its network gives logits that are not finite")
        self.network = network


class DeviceLostError(EnsemblerError):
    """A device computes nothing more; what is finished is kept."""

    code = "device_lost"


class DiskFullError(EnsemblerError, OSError):
    """There is no room left where a run is written."""

    code = "disk_full"


class RequestError(EnsemblerError, ValueError):
    """The request was wrong; nothing was done."""

    exit_code = 2
    code = "request"


class DataError(RequestError):
    """A table or label that cannot be used."""

    code = "data"

    @property
    def fault(self) -> str:
        """The message without the name of the image that it is about."""
        return str(self)


class FoldsError(DataError):
    """A split into folds that the labels or groups do not allow."""

    code = "folds"


class GroupLeakError(DataError):
    """A group of which some rows are in one fold and some in another."""

    code = "group_leak"


ImageFault = Literal["missing", "empty", "unreadable", "too_large"]


class ImageError(DataError):
    """An image that cannot be read; its code says why."""

    def __init__(
        self, message: str, *, fault: str | None = None, code: ImageFault = "unreadable"
    ) -> None:
        super().__init__(message)
        self._fault = message if fault is None else fault
        self.code = code

    @property
    def fault(self) -> str:
        """The message without the image's name."""
        return self._fault

    @classmethod
    def of(cls, name: object, fault: str, code: ImageFault = "unreadable") -> ImageError:
        """The error of the image called `name`."""
        return cls(f"{name}: {fault}", fault=fault, code=code)


class RecipeError(RequestError):
    """A recipe that cannot be run; `problems` holds one line for each fault, with its place."""

    code = "recipe"

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


class MissingRunError(RequestError, FileNotFoundError):
    """A run that does not exist."""

    code = "missing_run"


class BundleError(RequestError):
    """A bundle that cannot be used: it was cut short or altered, or is of another version."""

    code = "bundle"


class MissingBundleError(BundleError, FileNotFoundError):
    """A bundle that does not exist."""

    code = "missing_bundle"


class ChangedRecipeError(RequestError):
    """A run folder that belongs to another recipe."""

    code = "changed_recipe"


class NotFittedError(RequestError, AttributeError):
    """A blend method that is asked to predict before it is fitted."""

    code = "not_fitted"

    def __init__(self, what: str) -> None:
        super().__init__(
            f"this {what} is not fitted yet; call fit(stack, y) before predict_proba(stack)"
        )


class NotKeptError(EnsemblerError):
    """A fitted blend that cannot be saved to a file.

    It may be submitted, and is fitted again for new images.
    """

    code = "not_kept"


class MissingExtraError(RequestError, ImportError):
    """A part of the package that is not installed."""

    code = "missing_extra"

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs the extra '{extra}': pip install 'ensembler-toolkit[{extra}]'"
        )


class UnknownNameError(RequestError, LookupError):
    """A name that does not exist, where one of the names `of` something was expected."""

    code = "unknown_name"

    def __init__(
        self, kind: str, name: object, known: Iterable[str], *, of: str = ""
    ) -> None:
        where = f" of {of}" if of else ""
        super().__init__(
            f"unknown {kind} {str(name)!r}{where}; {nearest(str(name), known)}"
        )


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

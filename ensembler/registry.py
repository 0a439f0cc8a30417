"""Names of extension points, and the objects behind them, loaded only when they are named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from ensembler.errors import RequestError, UnknownNameError


class Registry:
    """Names of one kind ("blend method", "view", ...), each with the place `module:attribute`.

    Other packages add names through entry points of `group`; a name of ours cannot be replaced.
    """

    def __init__(self, kind: str, group: str, places: Mapping[str, str]) -> None:
        self.kind = kind
        self.group = group
        self.places = dict(places)

    @cached_property
    def _added(self) -> dict[str, EntryPoint]:
        return {
            e.name: e for e in entry_points(group=self.group) if e.name not in self.places
        }

    @property
    def names(self) -> list[str]:
        """All names: ours in the order of the catalogue, then those of other packages."""
        return [*self.places, *sorted(self._added)]

    def __contains__(self, name: object) -> bool:
        return name in self.places or name in self._added

    def check(self, name: str) -> str:
        """Return `name`, or raise UnknownNameError with the nearest ones."""
        if name not in self:
            raise UnknownNameError(self.kind, name, self.names)
        return name

    def load(self, name: str) -> Any:
        """Return the object behind `name`."""
        self.check(name)
        if name in self._added:
            return self._added[name].load()
        return load_place(self.places[name], self.kind)


def load_place(place: str, kind: str, looked: Iterable[Path] = ()) -> Any:
    """Import the object at `module:attribute`.

    A RequestError says what is wrong, and where was `looked`.
    """
    module_name, separator, attribute = place.partition(":")
    if not separator or not module_name or not attribute:
        raise RequestError(f"{kind} {place!r} is not of the form 'module:name'")
    try:
        module = import_module(module_name)
    except Exception as error:  # a module of the user's own may raise anything
        raise RequestError(
            f"{kind} {place!r}: {_not_imported(module_name, error, looked)}"
        ) from error
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        file = getattr(module, "__file__", None)
        found = f"{module_name!r} ({file})" if file else repr(module_name)
        raise RequestError(
            f"{kind} {place!r}: module {found} has no {attribute!r}; if you mean another "
            "file, give it a name that no installed module has"
        ) from error


def _not_imported(module: str, error: Exception, looked: Iterable[Path]) -> str:
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing is not None and (module == missing or module.startswith(missing + ".")):
        places = ["installed", *dict.fromkeys(str(folder) for folder in looked)]
        where = (
            f"it is neither {' nor in '.join(places)}"
            if len(places) > 1
            else "it is not on the Python path"
        )
        return (
            f"there is no module {missing!r}: {where}; put its file beside the recipe, or its "
            "folder on PYTHONPATH"
        )
    return f"module {module!r} cannot be imported ({type(error).__name__}: {error})"

"""Names of extension points and the objects behind them, loaded only when a recipe or a command names them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from ensembler.errors import RequestError, UnknownNameError


class Registry:
    """Names of one kind ("blend method", "view", ...), each with the place `module:attribute` of its object.

    Other packages add names through entry points of `group`; a name of ours cannot be replaced.
    """

    def __init__(self, kind: str, group: str, places: Mapping[str, str]) -> None:
        self.kind = kind
        self.group = group
        self.places = dict(places)

    @cached_property
    def _added(self) -> dict[str, EntryPoint]:
        return {e.name: e for e in entry_points(group=self.group) if e.name not in self.places}

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


def load_place(place: str, kind: str) -> Any:
    """Import the object at `module:attribute`; a RequestError says which half is wrong."""
    module_name, separator, attribute = place.partition(":")
    if not separator or not module_name or not attribute:
        raise RequestError(f"{kind} {place!r} is not of the form 'module:name'")
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
            raise RequestError(
                f"{kind} {place!r}: there is no module {error.name!r} on the Python path; "
                "run from the folder that holds it or install it"
            ) from error
        raise
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        raise RequestError(f"{kind} {place!r}: module {module_name!r} has no {attribute!r}") from error

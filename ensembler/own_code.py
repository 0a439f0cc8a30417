"""Code of the user's own, named as `module:name`.

Where it is, how it is imported, and what is in it. Only what the user's recipe or command names is
ever imported; what a record of a run names is not (see `is_own`).
"""

from __future__ import annotations

import hashlib
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ensembler.registry import load_place


def is_own(name: object) -> bool:
    """Whether a value would be taken as `module:name`."""
    return isinstance(name, str) and ":" in name


def own_values(options: Mapping[str, Any]) -> list[str]:
    """The values of `options` that name code."""
    return [value for value in options.values() if is_own(value)]


def source_of(place: str, folders: Sequence[Path] = ()) -> Path | None:
    """The file of the module in `module:name`, found without running anything.

    None where there is no such file. Installed modules come first; `folders` are looked into for a
    module that is not on the Python path.
    """
    spec = _spec_of(place.partition(":")[0], folders)
    origin = None if spec is None else spec.origin
    return Path(origin) if origin is not None and Path(origin).is_file() else None


def _spec_of(module: str, folders: Sequence[Path]) -> ModuleSpec | None:
    loaded = getattr(sys.modules.get(module), "__spec__", None)
    if isinstance(loaded, ModuleSpec):
        return loaded
    top, *below = module.split(".")
    try:
        spec = find_spec(top) or PathFinder.find_spec(
            top, [str(folder) for folder in folders]
        )
    except (
        ValueError
    ):  # a module that was made by hand and says nothing of where it is from
        return None
    name = top
    for part in below:
        name = f"{name}.{part}"
        inside = None if spec is None else spec.submodule_search_locations
        spec = None if inside is None else PathFinder.find_spec(name, list(inside))
    return spec


def load_own(place: str, kind: str, folders: Iterable[Path] = ()) -> Any:
    """Import the object at `module:name`.

    A module that is not installed may lie in one of `folders`. They stand at the end of the Python
    path, so that they hide nothing, and only while the module is imported. RequestError says what
    is wrong. An import inside a function of that module comes too late for a neighbour of its own:
    folders that stayed on the path would be searched by every optional import of other packages.
    """
    looked = [folder.resolve() for folder in folders]
    # of what is about to be imported, not of what it may be edited to later
    digest_of(place, tuple(looked))
    with _on_path(looked):
        found = load_place(place, kind, looked)
    _LOADED.add(place)
    return found


_LOADED: set[str] = set()


def is_loaded(place: str) -> bool:
    """Whether this process has imported `module:name`, for somebody who named it."""
    return place in _LOADED


@contextmanager
def _on_path(folders: Iterable[Path]) -> Iterator[None]:
    added = [str(folder) for folder in folders if str(folder) not in sys.path]
    sys.path.extend(added)
    try:
        yield
    finally:
        for folder in added:
            if folder in sys.path:
                sys.path.remove(folder)


def digest_of(place: str, folders: tuple[Path, ...] = ()) -> str | None:
    """The sha256 of the module's file; of a package that is not installed, of all its Python files.

    None without one. It is what the module held when this process first asked, which is what this
    process computes with.
    """
    path = source_of(place, folders)
    if path is None:
        return None
    return _digest(path, place.partition(":")[0])


@cache
def _digest(path: Path, module: str) -> str:
    files = [path]
    package = _package_folder(path, module)
    if package is not None and not _is_installed(package):
        files = sorted(package.rglob("*.py"))
    digest = hashlib.sha256()
    for file in files:
        name = file.name if package is None else str(file.relative_to(package))
        digest.update(f"{name}\n{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _package_folder(path: Path, module: str) -> Path | None:
    """The folder of the outermost package that a module's file belongs to."""
    depth = module.count(".") + (path.name == "__init__.py")
    return path.parents[depth - 1] if depth else None


def _is_installed(folder: Path) -> bool:
    places = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")]
    places += [*site.getsitepackages(), site.getusersitepackages()]
    return any(folder.resolve().is_relative_to(Path(place).resolve()) for place in places)

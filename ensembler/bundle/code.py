"""Code of the user's own in a bundle: put in by name, shown, and run only when it is trusted."""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path

from ensembler.bundle.archive import Archive
from ensembler.bundle.ensemble import Ensemble
from ensembler.errors import BundleError, RequestError
from ensembler.inference.views import place_of_own
from ensembler.networks.sources import is_own_backbone
from ensembler.own_code import is_own, source_of

FOLDER = "code"


def used_code(ensemble: Ensemble) -> dict[str, str]:
    """Every `module:name` that the ensemble needs to predict, and what it is used as."""
    found: dict[str, str] = {}
    for member in ensemble.networks:
        if is_own_backbone(member.backbone):
            found[member.backbone] = "backbone"
        for step in member.input.step_names:
            if is_own(step):
                found[step] = "prepare step"
        for view in member.view_names:
            if is_own(view):
                found[place_of_own(view)] = "view"
    for fitted in ensemble.fitted.values():
        found |= dict.fromkeys(fitted.candidate.code, "blend")
    return found


def code_entries(used: Mapping[str, str], files: Collection[Path]) -> dict[str, bytes]:
    """The entries of a bundle that hold the modules of `used`, from the files that were given.

    RequestError for a module that no file was given for, and for a file that is not the one that
    this process predicts with.
    """
    by_module = {path.stem: path for path in files}
    for path in files:
        if path.suffix != ".py" or not path.stem.isidentifier() or not path.is_file():
            raise RequestError(
                f"--with-code {path}: expected a Python file, such as nets.py"
            )
    for place, kind in used.items():
        module = place.partition(":")[0]
        if module not in by_module:
            raise RequestError(
                f"{kind} {place!r} is code of your own, which a bundle holds only when its file "
                f"is given: --with-code {module.replace('.', '/')}.py"
            )
        _check_same(place, by_module[module])
    return {f"{FOLDER}/{path.name}": path.read_bytes() for path in files}


def _check_same(place: str, given: Path) -> None:
    found = source_of(place)
    if found is None or found.read_bytes() == given.read_bytes():
        return
    raise RequestError(
        f"--with-code {given} is not the file that {place!r} is in here ({found})"
    )


def sources_in(archive: Archive) -> dict[str, str]:
    """The code that a bundle brings along, by the name of its entry."""
    return {
        name: _shown(archive.read(name).decode(errors="backslashreplace"))
        for name in archive.record.code_files
    }


def _shown(text: str) -> str:
    """Code as a terminal may show it: what is no visible character is written out."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def check_trusted(archive: Archive, *, trust_code: bool) -> None:
    """Raise RequestError for a bundle with code of its own that is not trusted."""
    if not archive.record.code or trust_code:
        return
    named = ", ".join(f"{place} ({kind})" for place, kind in archive.record.code.items())
    raise RequestError(
        f"{archive.path} needs code that it brings along, {named}, and nothing of it was run: "
        "read it, and add --trust-code (trust_code=True) if you trust who packed it"
    )


def import_code(archive: Archive) -> None:
    """Import the modules that a bundle brings along; its user has said that they are trusted.

    RequestError when another module of the same name is imported already.
    """
    contents = {name: archive.read(name) for name in archive.record.code_files}
    modules = {}
    for name, content in contents.items():
        module = name.removeprefix(f"{FOLDER}/").removesuffix(".py")
        if not module.isidentifier() or name != f"{FOLDER}/{module}.py":
            raise BundleError(f"{archive.path}: {name!r} is no name of a module")
        modules[module] = content
    for module, content in modules.items():
        _check_free(module, content)
    folder = _folder_of(_digest(contents.values()))
    for module, content in modules.items():
        (folder / f"{module}.py").write_bytes(content)
    sys.path.insert(0, str(folder))
    try:
        for module in modules:
            _import(archive, module)
    finally:
        sys.path.remove(str(folder))


def _check_free(module: str, content: bytes) -> None:
    file = getattr(sys.modules.get(module), "__file__", None)
    if module not in sys.modules:
        return
    if file is None or not Path(file).is_file() or Path(file).read_bytes() != content:
        raise RequestError(
            f"the bundle brings a module {module!r} along, and another one of this name is "
            f"imported already ({file or 'built in'}); open it in a process of its own"
        )


def _import(archive: Archive, module: str) -> None:
    try:
        import_module(module)
    except Exception as error:  # a module of somebody's own may raise anything
        raise RequestError(
            f"{archive.path}: its module {module!r} cannot be imported "
            f"({type(error).__name__}: {error})"
        ) from error


def _digest(contents: Iterable[bytes]) -> str:
    return hashlib.sha256(b"\0".join(contents)).hexdigest()


@cache
def _folder_of(digest: str) -> Path:  # noqa: ARG001 one folder for each code
    """A folder for modules, which is there as long as this process."""
    folder = tempfile.TemporaryDirectory(prefix="ens-code-")
    _FOLDERS.append(folder)
    return Path(folder.name)


_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []

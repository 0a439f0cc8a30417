"""From a recipe file to checked, frozen specs.

Resolves extends, defaults, --set and variables, and reports all problems at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ensembler.errors import RecipeError
from ensembler.metrics.renamed import with_names_of_today
from ensembler.recipe.auto_epochs import auto_entries
from ensembler.recipe.defaults import share_defaults
from ensembler.recipe.document import Document, Place, merged, read_document
from ensembler.recipe.overrides import override
from ensembler.recipe.paths import resolve_paths
from ensembler.recipe.portfolio import is_of_portfolio, with_portfolio
from ensembler.recipe.renamed import with_options_of_today
from ensembler.recipe.spec import RecipeSpec
from ensembler.recipe.validation import validate
from ensembler.recipe.variables import expand


@dataclass(frozen=True)
class Recipe:
    """A checked recipe and where it came from; `notes` are for whoever wrote it.

    `auto_epochs` names the members whose epochs the recipe leaves to the plan; `spec` has a number
    for them, too.
    """

    spec: RecipeSpec
    path: Path
    notes: tuple[str, ...] = ()
    auto_epochs: frozenset[str] = frozenset()

    @classmethod
    def load(cls, path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
        """Read and check a recipe file.

        `overrides` are "key.of.value=YAML" as on the command line. Raises RecipeError with every
        problem found, each with its line and the nearest valid name.
        """
        path = Path(path)
        if path.is_dir() and (path / "recipe.yaml").is_file():
            path = path / "recipe.yaml"
        of_portfolio = [given for given in overrides if is_of_portfolio(given)]
        others = [given for given in overrides if not is_of_portfolio(given)]
        document = with_portfolio(override(_read_with_base(path, ()), of_portfolio))
        document = expand(override(document, others))
        document, problems = share_defaults(with_options_of_today(document))
        content = {
            "name": path.stem if path.name != "recipe.yaml" else path.resolve().parent.name,
            **document.content,
        }
        auto = auto_entries(content)
        return cls(validate(content, document, problems), path, document.notes, auto)

    @classmethod
    def load_recorded(cls, path: Path) -> Recipe:
        """Read the resolved recipe that a run keeps; its names may have changed since."""
        document = with_options_of_today(read_document(path))
        content = dict(document.content)
        if isinstance(content.get("blend"), dict):
            content["blend"] = with_names_of_today(content["blend"])
        members = content.get("members")
        if isinstance(members, dict):
            content["members"] = {
                name: with_names_of_today(member) if isinstance(member, dict) else member
                for name, member in members.items()
            }
        auto = auto_entries(content)
        return cls(validate(content, document), path, auto_epochs=auto)

    @classmethod
    def check(
        cls, content: Mapping[str, Any], path: Path, origins: Mapping[Place, str]
    ) -> Recipe:
        """Check a recipe that a command put together.

        `origins` say what to name in an error about a place in it.
        """
        document = with_options_of_today(Document(dict(content), path, origins))
        auto = auto_entries(document.content)
        return cls(validate(document.content, document), path, document.notes, auto)


def _read_with_base(path: Path, seen: tuple[Path, ...]) -> Document:
    if path.resolve() in seen:
        raise RecipeError([f"{path.name}: extends comes back to itself"])
    document = with_options_of_today(resolve_paths(read_document(path)))
    parent = document.content.pop("extends", None)
    if parent is None:
        return document
    if not isinstance(parent, str):
        raise RecipeError(
            [f"{document.where(('extends',))}: extends takes the path of one recipe"]
        )
    base = _read_with_base(path.parent / parent, (*seen, path.resolve()))
    return Document(
        merged(base.content, document.content),
        path,
        {**base.origins, **document.origins},
        (*base.notes, *document.notes),
    )

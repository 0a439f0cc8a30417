"""Train K-fold members, keep every prediction, and submit the best blend, with an honest score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ensembler.recipe import Recipe as Recipe
    from ensembler.run import Run as Run

__version__ = "0.1.0"
__all__ = ["Recipe", "Run", "__version__"]


def __getattr__(name: str) -> Any:
    # `import ensembler` must cost nothing: the two classes bring numpy and pandas.
    if name == "Run":
        from ensembler.run import Run

        return Run
    if name == "Recipe":
        from ensembler.recipe import Recipe

        return Recipe
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Recipes: one YAML file says what a run is made from."""

from __future__ import annotations

from typing import Any

__all__ = ["Recipe"]


def __getattr__(name: str) -> Any:
    if name == "Recipe":
        from ensembler.recipe.load import Recipe

        return Recipe
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

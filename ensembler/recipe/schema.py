"""The JSON Schema of a recipe file, for editors and for the docs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ensembler.recipe.portfolio import PortfolioSpec
from ensembler.recipe.spec import RecipeSpec
from ensembler.training.spec import MemberSpec


def recipe_schema() -> dict[str, Any]:
    """The schema of a recipe file, `extends`, `defaults` and `portfolio` included."""
    schema = RecipeSpec.model_json_schema()
    schema["title"] = "ensembler recipe"
    schema["required"] = ["data"]
    schema["anyOf"] = [{"required": ["members"]}, {"required": ["portfolio"]}]
    member = MemberSpec.model_json_schema(ref_template="#/$defs/{model}")
    member.pop("$defs", None)
    member.pop("required", None)
    schema["properties"] = {
        "extends": {
            "type": "string",
            "description": "Another recipe file whose keys hold where this one is silent.",
        },
        "defaults": {
            **member,
            "title": "Defaults",
            "description": "Member options that every member shares.",
        },
        "portfolio": {
            **PortfolioSpec.model_json_schema(),
            "title": "Portfolio",
        },
        **schema["properties"],
    }
    return schema


def top_level_keys() -> list[tuple[str, str]]:
    """The keys that stand at the left of a recipe, in their order, each with what it says."""
    properties = recipe_schema()["properties"]
    fields = RecipeSpec.model_fields
    keys = []
    for name, found in properties.items():
        about = fields[name].description if name in fields else None
        keys.append((name, about or _says(found)))
    return keys


def _says(found: Mapping[str, Any]) -> str:
    text = str(found.get("description") or "")
    return " ".join(text.split("\n\n")[0].split())

"""`ens schema`."""

from __future__ import annotations

from ensembler.cli.options import Debug, Json, Quiet
from ensembler.cli.terminal import print_json


def command(json: Json = False, quiet: Quiet = False, debug: Debug = False) -> None:
    """Print the JSON Schema of a recipe, for editors."""
    import json as json_module

    from ensembler.recipe.schema import recipe_schema

    if json:
        print_json(recipe_schema())
    else:
        print(json_module.dumps(recipe_schema(), indent=2))

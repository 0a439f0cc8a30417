import json

from ensembler.recipe.schema import recipe_schema


def test_the_schema_is_printed_with_and_without_json(ens_here):
    for more in ([], ["--json"]):
        assert json.loads(ens_here("schema", *more).stdout) == recipe_schema()

import json

from ensembler.recipe.schema import recipe_schema
from ensembler.recipe.spec import RecipeSpec


def test_every_key_of_a_recipe_is_in_the_schema_and_described():
    schema = recipe_schema()
    keys = {field.alias or name for name, field in RecipeSpec.model_fields.items()}
    assert keys | {"extends", "defaults", "portfolio"} == set(schema["properties"])
    assert schema["required"] == ["data"]
    assert schema["anyOf"] == [{"required": ["members"]}, {"required": ["portfolio"]}]


def test_defaults_are_the_options_of_a_member_and_none_of_them_is_required():
    defaults = recipe_schema()["properties"]["defaults"]
    assert {"backbone", "epochs", "lr", "batch_size"} <= set(defaults["properties"])
    assert "required" not in defaults


def test_every_reference_leads_to_a_definition():
    schema = recipe_schema()
    text = json.dumps(schema)
    named = {part.partition('"')[0] for part in text.split('"#/$defs/')[1:]}
    assert named <= set(schema["$defs"])
    assert named

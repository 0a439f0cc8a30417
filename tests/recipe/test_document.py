from itertools import pairwise

import pytest

from ensembler.errors import RecipeError, RequestError
from ensembler.recipe.document import parse_document, parse_value, read_document

TEXT = """\
name: x
data:
  source: here   # a comment
  list: [1, two]
"""


@pytest.fixture
def parse(tmp_path):
    return lambda text: parse_document(text, tmp_path / "r.yaml")


def test_a_document_is_plain_values_and_knows_the_line_of_each(parse):
    found = parse(TEXT)
    assert found.content == {"name": "x", "data": {"source": "here", "list": [1, "two"]}}
    assert found.where(("data", "source")) == "r.yaml line 3"
    assert found.where(("data", "list", 1)) == "r.yaml line 4"


def test_the_place_of_a_value_that_is_not_there_is_the_nearest_above_it(parse):
    found = parse(TEXT)
    assert (
        found.where(("data", "missing", "key")) == found.where(("data",)) == "r.yaml line 2"
    )


def test_a_merge_takes_what_the_mapping_itself_leaves_out(parse):
    found = parse("base: &b {lr: 1, epochs: 2}\nown:\n  <<: *b\n  lr: 3\n")
    assert found.content["own"] == {"lr": 3, "epochs": 2}


def test_a_date_is_text_and_yes_and_no_are_words(parse):
    assert parse("day: 2024-01-02\nflag: no\n").content == {
        "day": "2024-01-02",
        "flag": "no",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", r"r\.yaml line 2: 'a'"),
        ("a: !!python/object:os.system x", "line 1: tag .* plain values only"),
        ("a:\n\t- b", "line 2: a tab"),
        ("? [1, 2]\n: x", "line 1: a key must be a plain word"),
        ("- a\n- b", "holds a sequence, expected keys"),
        ("", "is empty"),
        ("a: [1", "line 1"),
        ("x: {<<: 3}", "<< takes a mapping"),
        ("a: &a [1,1,1,1,1,1,1,1,1]\n"
         + "".join(f"{y}: &{y} [{','.join([f'*{x}'] * 9)}]\n" for x, y in pairwise("abcdefg")),
         "expands to too many values"),
    ],
)  # fmt: skip
def test_what_a_recipe_does_not_hold_is_refused_with_its_line(parse, text, message):
    with pytest.raises(RecipeError, match=message):
        parse(text)


def test_a_value_of_the_command_line_is_one_yaml_value():
    assert parse_value("[1, two, {three: 3}]") == [1, "two", {"three": 3}]
    assert parse_value("1e-3") == "1e-3" or parse_value("1e-3") == 0.001
    assert parse_value("") is None
    assert parse_value("|") == "|"
    with pytest.raises(RequestError, match="is not YAML"):
        parse_value("{a: 1")


def test_a_file_that_cannot_be_a_recipe_says_why(tmp_path):
    (tmp_path / "other.yaml").write_text("a: 1")
    with pytest.raises(RequestError, match=r"does not exist; recipes there: other\.yaml"):
        read_document(tmp_path / "mine.yaml")
    with pytest.raises(RequestError, match="is a folder"):
        read_document(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("name: Käse".encode("latin-1"))
    with pytest.raises(RecipeError, match="not a UTF-8 text file"):
        read_document(tmp_path / "latin.yaml")

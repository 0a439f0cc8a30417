import pytest

from ensembler.errors import DataError
from ensembler.plain_text import check_plain_text


@pytest.mark.parametrize("name", ["plain", "Käse 犬", "a\tb", "two\nlines", 3, None])
def test_names_that_tables_can_hold_are_taken(name):
    check_plain_text(["first", name], "id", "train.csv")


@pytest.mark.parametrize("character", ["\r", "\x00", "\x0b", "\x7f", "\x85"])
def test_a_control_character_is_named_with_its_place(character):
    with pytest.raises(DataError, match=r"train\.csv: id 'a.*b' has a control character"):
        check_plain_text(["fine", f"a{character}b"], "id", "train.csv")

import pytest

from ensembler.demo.demo_data import KINDS, check_demo_data, write_demo_data
from ensembler.errors import RequestError, UnknownNameError

FEW = {"n": 10, "persons": 12, "seed": 0, "groups": False, "odd": False}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_comes_with_a_recipe_and_as_many_images_as_it_says(tmp_path, kind):
    written = write_demo_data(kind, tmp_path / kind, **FEW)
    images = [
        path for path in (tmp_path / kind).rglob("*") if path.suffix in (".png", ".jpg")
    ]
    assert written == len(images) > 0
    assert (tmp_path / kind / "recipe.yaml").is_file()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("")
    for place in (tmp_path, tmp_path / "mine"):
        with pytest.raises(RequestError, match="is not an empty folder"):
            write_demo_data("shapes", place, **FEW)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_an_empty_folder_and_a_new_one_are_taken(tmp_path):
    check_demo_data("shapes", tmp_path)
    check_demo_data("masks", tmp_path / "new")


def test_an_unknown_kind_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'shapes'"):
        check_demo_data("shape", tmp_path / "new")

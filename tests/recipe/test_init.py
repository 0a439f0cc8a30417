"""`ens init`: what it sees, and that what it writes loads."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ensembler.errors import DataError, RequestError
from ensembler.recipe.init import init_recipe, shipped_recipes
from ensembler.recipe.load import Recipe


def pictures(folder, names, mode="RGB"):
    rng = np.random.default_rng(0)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(folder / name)


def test_class_folders_with_train_and_test(tmp_path):
    data = tmp_path / "pets"
    pictures(
        data, [f"train/{c}/{i}.png" for c in ("cat", "dog") for i in range(6)], mode="L"
    )
    pictures(data, [f"test/{i}.png" for i in range(3)])
    written = init_recipe(str(data), tmp_path / "pets.yaml")
    recipe = Recipe.load(written.path).spec
    assert recipe.name == "pets"
    assert recipe.input.channels == 1
    assert recipe.folds.count == 5
    assert recipe.folds.holdout == 0  # there is a test part
    assert any("test/ is the test part" in finding for finding in written.findings)


def test_a_table_with_a_person_column_is_grouped_by_it(tmp_path):
    rows = [
        {"image": f"im/{i}.png", "sex": "fm"[i % 2], "person": f"p{i // 3}"}
        for i in range(30)
    ]
    pictures(tmp_path, [row["image"] for row in rows])
    pd.DataFrame(rows).to_csv(tmp_path / "photos.csv", index=False)
    recipe = Recipe.load(
        init_recipe(str(tmp_path / "photos.csv"), tmp_path / "r.yaml").path
    ).spec
    assert (
        recipe.name == "r"
    )  # as the file is called, so that `ens evaluate r` finds what `ens run r.yaml` made
    assert recipe.data.group == "person"
    assert recipe.data.path == "image"
    assert recipe.folds.holdout == 0.1


def test_a_recipe_is_never_overwritten_unasked(tmp_path):
    out = tmp_path / "digits.yaml"
    assert init_recipe("digits", out).path == out
    with pytest.raises(RequestError, match="--force overwrites"):
        init_recipe("digits", out)
    assert init_recipe("digits", out, force=True).path == out


def test_every_shipped_recipe_can_be_written(tmp_path):
    assert {"digits", "fashion-mnist", "clothing"} <= set(shipped_recipes())


def test_images_of_many_classes_are_counted_in_one_pass(tmp_path, monkeypatch):
    data, asked = tmp_path / "many", []
    pictures(data, [f"c{c:02d}/{i}.png" for c in range(12) for i in range(2)])
    plain = Path.is_relative_to
    monkeypatch.setattr(
        Path, "is_relative_to", lambda *paths: asked.append(paths) or plain(*paths)
    )
    written = init_recipe(str(data), tmp_path / "many.yaml")
    assert "24 images in 12 class folders." in written.findings
    assert len(asked) <= 24


def test_what_cannot_be_guessed_is_said(tmp_path):
    with pytest.raises(
        RequestError,
        match="does not exist; name a folder of images, a CSV, or a shipped recipe",
    ):
        init_recipe(str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no class folders with images"):
        init_recipe(str(tmp_path / "empty"))
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="no column of image paths"):
        init_recipe(str(tmp_path / "t.csv"))


@pytest.mark.parametrize(
    ("values", "target"),
    [
        (
            ["cat dog", "dog", "cat", "none", "cat eel dog"],
            {"multi_label": " ", "no_label": "none"},
        ),
        (
            ["Mass|Nodule", "Mass", "No Finding", "Nodule", "Mass|Edema"],
            {"multi_label": "|", "no_label": "No Finding"},
        ),
        (["dark red", "light red", "dark blue", "light blue", "dark red"], None),
        (["ankle boot", "bag", "dress", "shirt", "t-shirt top"], None),
        (["red", "blue", "dark blue", "light blue", "dark red"], None),
        (["fox", "red fox", "bear", "arctic fox", "arctic bear"], None),
        (["a;b", "a", "b", "", "b;c"], {"multi_label": ";", "no_label": ""}),
    ],
)
def test_several_labels_at_once_are_told_from_names_of_several_words(
    tmp_path, values, target
):
    rows = [{"image": f"im/{i}.png", "tags": values[i % 5]} for i in range(40)]
    pictures(tmp_path, [row["image"] for row in rows])
    pd.DataFrame(rows).to_csv(tmp_path / "photos.csv", index=False)
    written = init_recipe(str(tmp_path / "photos.csv"), tmp_path / "r.yaml")
    recipe = Recipe.load(written.path).spec
    found = recipe.data.target_specs["tags"].model_dump(exclude_defaults=True)
    assert found == (target or {})
    assert recipe.blend.calibrate == ("biases" if target else "none")
    assert any("several labels at once" in finding for finding in written.findings) == bool(
        target
    )


def test_images_are_known_by_their_content_and_files_left_out_are_said(tmp_path):
    data = tmp_path / "pets"
    pictures(data, [f"{c}/{i}.png" for c in ("cat", "dog") for i in range(6)])
    (data / "cat" / "0.png").rename(data / "cat" / "0.png_40Wx50H")
    (data / "dog" / "notes.txt").write_text("x")
    found = init_recipe(str(data), tmp_path / "pets.yaml").findings
    assert "12 images in 2 class folders." in found
    assert any(
        "1 file is not an image and is left out: dog/notes.txt" in finding
        for finding in found
    )


def test_a_column_of_images_is_known_by_the_files_it_names(tmp_path):
    rows = [{"picture": f"im/{i}.png", "sex": "fm"[i % 2]} for i in range(10)]
    pictures(tmp_path, [row["picture"] for row in rows])
    for row in rows:
        (tmp_path / row["picture"]).rename(tmp_path / f"{row['picture']}_1")
        row["picture"] += "_1"
    pd.DataFrame(rows).to_csv(tmp_path / "photos.csv", index=False)
    recipe = Recipe.load(
        init_recipe(str(tmp_path / "photos.csv"), tmp_path / "r.yaml").path
    ).spec
    assert recipe.data.path == "picture"


@pytest.mark.parametrize(
    ("recipe", "source"),
    [
        ("r.yaml", "pets"),
        ("recipes/r.yaml", "../pets"),
        ("work/recipes/r.yaml", "../../pets"),
        ("pets/r.yaml", "."),
        ("pets/recipes/r.yaml", ".."),
    ],
)
def test_data_near_the_recipe_are_named_relative_to_it_and_move_with_it(
    tmp_path, recipe, source
):
    home = tmp_path / "home"
    pictures(home / "pets", [f"{c}/{i}.png" for c in ("cat", "dog") for i in range(6)])
    written = init_recipe(str(home / "pets"), home / recipe).path
    assert f"  source: {source}\n" in written.read_text()
    moved = home.rename(tmp_path / "moved")
    assert (
        Path(Recipe.load(moved / recipe).spec.data.source).resolve()
        == (moved / "pets").resolve()
    )


def test_data_far_from_the_recipe_are_named_in_full(tmp_path):
    pictures(tmp_path / "pets", [f"{c}/{i}.png" for c in ("cat", "dog") for i in range(6)])
    written = init_recipe(
        str(tmp_path / "pets"), tmp_path / "a" / "b" / "c" / "r.yaml"
    ).path
    assert f"  source: {tmp_path / 'pets'}\n" in written.read_text()


def test_a_folder_whose_name_no_recipe_can_hold_is_refused(tmp_path):
    data = tmp_path / "caf\udce9"
    pictures(data, [f"{c}/{i}.png" for c in ("cat", "dog") for i in range(6)])
    with pytest.raises(
        RequestError, match=r"caf\\xe9 has a name that no recipe can hold"
    ) as caught:
        init_recipe(str(data), tmp_path / "r.yaml")
    str(caught.value).encode()
    assert not (tmp_path / "r.yaml").exists()

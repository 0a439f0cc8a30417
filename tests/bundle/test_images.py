import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ensembler.bundle.images import AskedPixels, find_asked, refuse_broken
from ensembler.data.images import FileImages
from ensembler.data.spec import InputSpec
from ensembler.errors import DataError, ImageError

ALL = ("0.png", "1.png", "2.png", "3.png", "4.png", "more/5.png")


def test_an_id_is_the_path_below_the_folder(pictures):
    asked = find_asked([str(pictures)])
    assert asked.ids == ALL
    assert asked.paths == tuple(pictures / name for name in ALL)


def test_files_patterns_and_several_folders_are_called_as_they_were_given(pictures):
    files = find_asked([f"{pictures}/1.png", f"{pictures}/0.png"])
    assert files.ids == (f"{pictures}/1.png", f"{pictures}/0.png")
    assert find_asked([f"{pictures}/*.png"]).ids == tuple(
        f"{pictures}/{name}" for name in ALL[:5]
    )
    assert len(find_asked([f"{pictures}/**/*.png"])) == 6
    both = find_asked([f"{pictures}/more", f"{pictures}/0.png"])
    assert both.ids == (f"{pictures}/more/5.png", f"{pictures}/0.png")


def test_a_list_on_standard_input_has_a_path_in_each_line(pictures):
    lines = [f"{pictures}/1.png\n", "\n", f"{pictures}/0.png\r\n"]
    assert find_asked(["-"], lines).ids == (f"{pictures}/1.png", f"{pictures}/0.png")


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_manifest_has_paths_from_its_folder_and_perhaps_ids(pictures, tmp_path, ending):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    path = tmp_path / f"m.{ending}"

    def write(**columns):
        table = pd.DataFrame(columns)
        table.to_csv(path, index=False) if ending == "csv" else table.to_parquet(path)

    write(path=["a.png", f"{pictures}/0.png"])
    asked = find_asked([str(path)])
    assert asked.ids == ("a.png", f"{pictures}/0.png")
    assert asked.paths == (tmp_path / "a.png", pictures / "0.png")
    write(file=["a.png"], id=["007"])
    assert find_asked([str(path)], path_column="file").ids == ("007",)
    write(path=["a.png"], id=["007"], code=["x"])
    assert find_asked([str(path)], id_column="code").ids == ("x",)


def test_what_names_no_image_is_refused(pictures, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "m.csv").write_text("name\na.png\n")
    (tmp_path / "n.csv").write_text("path,id\n,1\n")
    for given, words in {
        f"{tmp_path}/empty": "has no images",
        f"{tmp_path}/*.jpg": "no file matches",
        f"{tmp_path}/m.csv": "has no column 'path'",
        f"{tmp_path}/n.csv": "row 2: path is empty",
        f"{tmp_path}/none.csv": "does not exist",
        f"{tmp_path}/none": "no such image or folder",
        "-": "no image to predict",
    }.items():
        with pytest.raises(DataError, match=words):
            find_asked([given], [])
    with pytest.raises(DataError, match="duplicate id"):
        find_asked([f"{pictures}/0.png", f"{pictures}/0.png"])


def test_a_broken_image_is_zeros_and_noted(pictures, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"bad")
    images = FileImages([pictures / "0.png", tmp_path / "bad.jpg", tmp_path / "none.png"])
    noted = {}
    pixels = AskedPixels(
        images, InputSpec(size=8), lambda i, error: noted.update({i: error.code})
    )
    batch = pixels[np.arange(3)]
    assert batch.shape == (3, 8, 8, 3)
    assert batch[0].any()
    assert not batch[1:].any()
    assert noted == {1: "unreadable", 2: "missing"}
    with pytest.raises(ImageError, match=r"bad\.jpg"):
        AskedPixels(images, InputSpec(size=8), refuse_broken)[np.arange(3)]


@pytest.mark.parametrize("resize", ["stretch", "fit", "pad", "crop"])
@pytest.mark.parametrize("shape", [(1, 10_000), (10_000, 1), (1, 1)])
def test_images_of_odd_sides_are_prepared(tmp_path, resize, shape):
    Image.new("RGB", shape, (200, 10, 10)).save(tmp_path / "odd.png")
    spec = InputSpec(size=16, resize=resize)
    pixels = AskedPixels(FileImages([tmp_path / "odd.png"]), spec, refuse_broken)
    assert pixels[np.arange(1)].shape == (1, 16, 16, 3)

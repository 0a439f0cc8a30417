import gzip
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ensembler.data.samples import drop_samples, read_samples, read_unlabelled
from ensembler.data.spec import DataSpec, FoldSpec
from ensembler.errors import DataError

FOLDS = FoldSpec()


def image(path, value=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (value, 0, 0)).save(path)


@pytest.fixture
def folder(tmp_path):
    for i in range(12):
        image(tmp_path / "img" / ("cat" if i % 2 else "dog") / f"{i}.png")
    return tmp_path / "img"


@pytest.fixture
def manifest(tmp_path):
    rows = []
    for i in range(12):
        image(tmp_path / "p" / f"{i}.png", i)
        rows.append(
            {
                "path": f"p/{i}.png",
                "label": ["a", "b", "10", "9"][i % 4],
                "person": f"g{i // 3}",
                "age": str(i),
            }
        )

    def write(change=lambda table: table, **options):
        change(pd.DataFrame(rows)).to_csv(tmp_path / "m.csv", index=False, **options)
        return DataSpec(source=str(tmp_path / "m.csv"))

    return write


def read(spec, **changes):
    return read_samples(spec.model_copy(update=changes), FOLDS)


def test_a_folder_gives_its_class_folders_in_natural_order(folder):
    samples = read_samples(DataSpec(source=str(folder)), FOLDS)
    assert samples.classes == {"label": ("cat", "dog")}
    assert samples.table["id"].tolist()[:3] == ["cat/1.png", "cat/3.png", "cat/5.png"]
    assert samples.table["id"].tolist()[5] == "cat/11.png"
    assert samples.images.read(0).shape == (8, 8, 3)


def test_a_folder_with_train_and_test_gives_both_parts(folder, tmp_path):
    (tmp_path / "both").mkdir()
    folder.rename(tmp_path / "both" / "train")
    image(tmp_path / "both" / "test" / "x.png")
    samples = read_samples(DataSpec(source=str(tmp_path / "both")), FOLDS)
    assert samples.table["split"].value_counts().to_dict() == {"train": 12, "test": 1}
    assert samples.table["label"].tolist()[-1] is None


def test_a_manifest_reads_only_the_columns_that_are_named(manifest):
    samples = read(manifest())
    assert list(samples.table.columns) == ["id", "split", "source", "path", "label"]
    assert samples.classes["label"] == ("9", "10", "a", "b")
    more = read(manifest(), group="person", targets=("label", "age"))
    assert {"group", "age"} <= set(more.table.columns)
    assert more.classes["age"] == tuple(str(i) for i in range(12))


def test_a_column_called_id_is_the_id_and_the_path_otherwise(manifest):
    assert read(manifest()).table["id"][0] == "p/0.png"
    assert (
        read(manifest(lambda t: t.assign(id=[f"x{i}" for i in range(12)]))).table["id"][0]
        == "x0"
    )


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_separator_is_found(manifest, separator):
    assert len(read(manifest(sep=separator)).table) == 12


def test_a_parquet_manifest_reads_the_same(manifest, tmp_path):
    spec = manifest()
    pd.read_csv(tmp_path / "m.csv").to_parquet(tmp_path / "m.parquet")
    parquet = spec.model_copy(update={"source": str(tmp_path / "m.parquet")})
    pd.testing.assert_frame_equal(
        read(spec, group="person").table, read(parquet, group="person").table
    )


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda t: t.rename(columns={"label": "lable"}), {}, r"has no column 'label' "
                                                             r"\(data.targets\); did you mean "
                                                             r"'lable'"),
        (lambda t: t, {"group": "persn"}, "did you mean 'person'"),
        (lambda t: t.assign(path="p/0.png"), {}, "duplicate ids, such as 'p/0.png'"),
        (lambda t: t.assign(path=t["path"].replace("p/3.png", "p/x.png")), {}, r"no such image "
                                                                               r"under .* in row 5 "
                                                                               r"\(p/x.png\)"),
        (lambda t: t.assign(path=t["path"].replace("p/3.png", "../up.png")), {}, r"leads outside "
                                                                                 r".* in row 5 "
                                                                                 r"\(../up.png\)"),
        (lambda t: t.assign(path=t["path"].replace("p/3.png", "/etc/passwd")), {}, r"leads outside "
                                                                                   r".* in row 5"),
        (lambda t: t.assign(label=t["label"].where(t.index != 3, "")), {}, "label is "
                                                                           "empty in row 5"),
        (lambda t: t.assign(label="a"), {}, "has the one class 'a'; two are needed"),
        (lambda t: t.assign(label=t["label"].where(t.index != 0, "A")), {}, "'A' and 'a'.*make "
                                                                            "them one"),
        (lambda t: t, {"keep": ("a", "c")}, "data.keep names 'c', which no row has"),
        (lambda t: t, {"classes": ("a", "b")}, "labels that its classes do not name: 9, 10"),
        (lambda t: t.head(0), {}, "has a header and no rows"),
    ],
)  # fmt: skip
def test_every_fault_of_a_table_names_file_and_row(manifest, change, options, message):
    with pytest.raises(DataError, match=message):
        read(manifest(change), **options)


def test_all_faults_of_a_table_come_at_once(manifest):
    def spoil(t):
        return t.assign(
            label="", path=t["path"].replace({"p/1.png": "q", "p/2.png": "../z"})
        )

    with pytest.raises(DataError) as caught:
        read(manifest(spoil))
    assert len(str(caught.value).splitlines()) == 3


def test_a_label_only_in_the_test_part_is_named(manifest, tmp_path):
    image(tmp_path / "p" / "t.png")
    pd.DataFrame({"path": ["p/t.png"], "label": ["zebra"]}).to_csv(
        tmp_path / "t.csv", index=False
    )
    with pytest.raises(DataError, match="labels occur only in the test part: zebra"):
        read(manifest(), test=str(tmp_path / "t.csv"))


def test_a_test_part_may_lack_labels_and_keeps_its_order(manifest, tmp_path):
    for name in ("z", "y"):
        image(tmp_path / "p" / f"{name}.png")
    pd.DataFrame({"path": ["p/z.png", "p/y.png"]}).to_csv(tmp_path / "t.csv", index=False)
    samples = read(manifest(), test=str(tmp_path / "t.csv"))
    assert samples.table["id"].tolist()[-2:] == ["p/z.png", "p/y.png"]
    assert samples.table["label"].tolist()[-2:] == [None, None]


def test_keep_and_limit_leave_rows_out_in_equal_shares(manifest):
    assert set(read(manifest(), keep=("a", "b")).table["label"]) == {"a", "b"}
    limited = read(manifest(), limit=8)
    assert limited.table["label"].value_counts().tolist() == [2, 2, 2, 2]


def test_dropped_samples_take_their_images_along(manifest):
    samples = drop_samples(read(manifest()), ["p/0.png"])
    assert samples.images.read(0)[0, 0, 0] == 1
    assert samples.left_out == ("p/0.png",)


def test_digits_come_with_scikit_learn():
    samples = read_samples(DataSpec(source="digits"), FOLDS)
    assert len(samples.table) == 1797
    assert samples.classes["label"] == tuple("0123456789")
    assert samples.images.read(0).max() == 239


def test_fashion_mnist_is_read_from_its_four_files(tmp_path):
    rng = np.random.default_rng(0)
    for name, n in (("train", 30), ("t10k", 10)):
        pixels = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        header = bytes([0, 0, 8, 3]) + b"".join(
            int(k).to_bytes(4, "big") for k in pixels.shape
        )
        (tmp_path / f"{name}-images-idx3-ubyte.gz").write_bytes(
            gzip.compress(header + pixels.tobytes())
        )
        labels = np.arange(n, dtype=np.uint8) % 10
        content = bytes([0, 0, 8, 1]) + n.to_bytes(4, "big") + labels.tobytes()
        (tmp_path / f"{name}-labels-idx1-ubyte").write_bytes(content)
    samples = read_samples(
        DataSpec(source="fashion-mnist", root=str(tmp_path), limit=20), FOLDS
    )
    assert samples.table["split"].value_counts().to_dict() == {"train": 20, "test": 10}
    assert samples.classes["label"][9] == "Ankle boot"
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"no gzip")
    with pytest.raises(DataError, match="is not a whole gzip file"):
        read_samples(DataSpec(source="fashion-mnist", root=str(tmp_path)), FOLDS)


def test_new_images_of_a_folder_or_table_have_ids(folder, manifest):
    part = read_unlabelled(folder, DataSpec(source="x"))
    assert (len(part.table), len(part.images)) == (12, 12)
    spec = manifest()
    assert read_unlabelled(folder.parent / "m.csv", spec).table["id"][0] == "p/0.png"


def test_a_source_that_is_not_there_says_what_was_expected(tmp_path):
    with pytest.raises(
        DataError,
        match="does not exist; expected a folder, a CSV or Parquet file, or one of digits",
    ):
        read_samples(DataSpec(source=str(tmp_path / "gone")), FOLDS)


# --- files that are no images, and images whose name does not say so
# -------------------------------------------------


def codes(samples):
    return [remark.code for remark in samples.remarks]


@pytest.mark.parametrize(
    ("name", "kind"), [("black3.jpg_1088Wx1632H", "JPEG"), ("x", "PNG"), ("y.heic", "WEBP")]
)
def test_an_image_counts_whatever_its_name_ends_with(folder, name, kind):
    Image.new("RGB", (8, 8)).save(folder / "cat" / name, format=kind)
    samples = read_samples(DataSpec(source=str(folder)), FOLDS)
    assert f"cat/{name}" in set(samples.table["id"])
    assert samples.remarks == ()
    assert f"cat/{name}" in {
        f"cat/{i}"
        for i in read_unlabelled(folder / "cat", DataSpec(source="x")).table["id"]
    }


def test_what_lies_in_hidden_folders_does_not_count(folder):
    (folder / "cat" / ".ipynb_checkpoints").mkdir()
    (folder / "cat" / ".ipynb_checkpoints" / "notes.txt").write_text("")
    image(folder / "cat" / ".ipynb_checkpoints" / "copy.png")
    samples = read_samples(DataSpec(source=str(folder)), FOLDS)
    assert len(samples.images) == 12
    assert not samples.remarks


def test_runs_kept_beside_the_class_folders_are_no_class(folder):
    (folder / "artifacts" / "img").mkdir(parents=True)
    (folder / "artifacts" / "img" / "recipe.lock.json").write_text("{}")
    image(folder / "artifacts" / "img" / "preview.png")
    samples = read_samples(DataSpec(source=str(folder)), FOLDS)
    assert samples.classes["label"] == ("cat", "dog")
    assert len(samples.images) == 12
    by_pattern = read_samples(
        DataSpec(source=str(folder), pattern="{label}/{number}", targets="label"), FOLDS
    )
    assert len(by_pattern.images) == 12
    assert not [remark for part in (samples, by_pattern) for remark in part.remarks]


def test_files_that_are_no_images_are_counted_and_one_is_named(folder):
    for name in ("cat/notes.txt", "cat/BMW.md", "dog/Thumbs.db", "labels.csv"):
        (folder / name).write_text("BM, or what else may stand here")
    (folder / "cat" / ".DS_Store").write_text("")
    (remark,) = read_samples(DataSpec(source=str(folder)), FOLDS).remarks
    assert remark.code == "left_out"
    assert (
        remark.message
        == f"{folder}: 4 files are not images and are left out, such as cat/BMW.md"
    )
    assert set(remark.files) == {
        "cat/notes.txt",
        "cat/BMW.md",
        "dog/Thumbs.db",
        "labels.csv",
    }
    (remark,) = read_unlabelled(folder / "cat", DataSpec(source="x")).remarks
    assert "2 files are not images" in remark.message


def test_a_folder_read_by_a_pattern_says_what_it_leaves_out(folder):
    (folder / "cat" / "notes.txt").write_text("")
    samples = read_samples(DataSpec(source=str(folder), pattern="{label}/"), FOLDS)
    assert codes(samples) == ["left_out"]


def test_dropped_samples_leave_the_remarks(folder):
    (folder / "cat" / "notes.txt").write_text("")
    samples = read_samples(DataSpec(source=str(folder)), FOLDS)
    assert codes(drop_samples(samples, ["cat/1.png"])) == ["left_out"]


# --- labels that look the same
# ---------------------------------------------------------------------------------------


def test_spaces_around_some_labels_are_dropped_with_a_word(manifest):
    samples = read(
        manifest(lambda t: t.assign(label=t["label"].where(t.index % 8 != 0, "a ")))
    )
    assert samples.classes["label"] == ("9", "10", "a", "b")
    (remark,) = samples.remarks
    assert remark.code == "label_spaces"
    assert "spaces around 2 labels of label are dropped, such as 'a '" in remark.message


def test_a_space_after_every_comma_is_a_style_and_no_remark(manifest):
    assert read(manifest(lambda t: t.assign(label=" " + t["label"]))).remarks == ()


def test_spaces_around_a_class_folder_are_dropped_with_a_word(folder):
    image(folder / "cat " / "x.png")
    samples = read_samples(DataSpec(source=str(folder)), FOLDS)
    assert samples.classes == {"label": ("cat", "dog")}
    assert "cat /x.png" in set(samples.table["id"])
    assert codes(samples) == ["label_spaces"]


@pytest.mark.parametrize(
    "twin", ["Cafe\u0301", "caf\u00e9", "CAF\u00c9", "Caf\u00e9 ", "Caf\u00e9"]
)
def test_labels_that_look_the_same_are_refused_unless_the_recipe_names_them(manifest, twin):
    label = "Caf\u00e9"
    spec = manifest(lambda t: t.assign(label=[label, twin, "b"] * 4), encoding="utf-8")
    if twin.strip() == label:
        assert read(spec).classes["label"] == (label, "b") or read(spec).classes[
            "label"
        ] == (
            "b",
            label,
        )
        return
    with pytest.raises(
        DataError,
        match=r"differ only in case, spaces or the encoding of accents: .*make them one.*classes",
    ):
        read(spec)
    assert read(spec, classes=(label, twin, "b")).classes["label"] == (label, twin, "b")


# --- tables and names
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "key"), [("label", "data.targets"), ("path", "data.path"), ("id", "data.id")]
)
def test_a_column_that_is_needed_and_comes_twice_is_refused(
    manifest, tmp_path, column, key
):
    spec = manifest(lambda t: t.assign(id=t["path"]))
    lines = (tmp_path / "m.csv").read_text().splitlines()
    names = lines[0].split(",")
    twice = [line + "," + line.split(",")[names.index(column)] for line in lines]
    (tmp_path / "m.csv").write_text("\n".join(twice) + "\n")
    with pytest.raises(
        DataError,
        match=rf"m\.csv has 2 columns called '{column}' \({key}\); rename or remove",
    ):
        read(spec)


def test_a_column_that_comes_twice_and_is_not_needed_is_no_matter(manifest, tmp_path):
    spec = manifest()
    text = (tmp_path / "m.csv").read_text().replace("person,age", "age,age")
    (tmp_path / "m.csv").write_text(text)
    assert len(read(spec).table) == 12
    with pytest.raises(DataError, match="2 columns called 'age'"):
        read(spec, group="age")


def test_a_column_called_as_pandas_calls_a_second_one_is_no_second_one(manifest):
    spec = manifest(lambda t: t.assign(**{"label.1": t["label"]}))
    assert read(spec).classes["label"] == ("9", "10", "a", "b")


@pytest.mark.parametrize("place", ["cat/caf\udce9.png", "caf\udce9/x.png"])
def test_a_file_name_that_is_not_utf8_is_named(folder, place):
    image(folder / place)
    with pytest.raises(
        DataError, match=r"the name b'.*caf\\xe9.* is not UTF-8; rename"
    ) as caught:
        read_samples(DataSpec(source=str(folder)), FOLDS)
    str(caught.value).encode()
    with pytest.raises(DataError, match="is not UTF-8"):
        read_unlabelled(folder, DataSpec(source="x"))


def test_a_file_that_is_left_out_may_have_any_name(folder):
    (folder / "cat" / "caf\udce9.txt").write_text("")
    (remark,) = read_samples(DataSpec(source=str(folder)), FOLDS).remarks
    assert (
        remark.message.encode().decode() == remark.message
    )  # no half of a character is left in it
    assert [name.encode().decode() for name in remark.files] == list(remark.files)


@pytest.mark.parametrize("column", ["label", "path", "person"])
@pytest.mark.parametrize("character", ["\r", "\0", "\x1b"])
def test_control_characters_are_refused_with_row_and_column(
    manifest, tmp_path, column, character
):
    if column == "path" and character == "\0":
        pytest.skip("no file can have such a name")
    name = f"p/a{character}b.png"
    if column == "path":
        image(tmp_path / name)
    value = {"path": name}.get(column, f"a{character}b")
    rows = [0] if column == "path" else [0, 4, 8]
    spec = manifest(
        lambda t: t.assign(**{column: t[column].where(~t.index.isin(rows), value)}),
        quoting=1,
    )
    with pytest.raises(DataError, match="has a control character"):
        read(spec, group="person")


def test_a_control_character_in_a_file_name_is_refused(folder):
    image(folder / "cat" / "a\rb.png")
    with pytest.raises(
        DataError, match=r"the name 'cat/a\\rb.png' has a control character"
    ):
        read_samples(DataSpec(source=str(folder)), FOLDS)


def test_an_id_twice_among_many_new_images_is_found_at_once(tmp_path):
    image(tmp_path / "x.png")
    ids = [str(i) for i in range(30_000)] + ["29999"]
    pd.DataFrame({"path": "x.png", "id": ids}).to_csv(tmp_path / "m.csv", index=False)
    started = time.process_time()
    with pytest.raises(DataError, match="duplicate id '29999'"):
        read_unlabelled(tmp_path / "m.csv", DataSpec(source="x"))
    assert time.process_time() - started < 10

import gzip

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
            {"path": f"p/{i}.png", "label": ["a", "b", "10", "9"][i % 4], "person": f"g{i // 3}", "age": str(i)}
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
    assert read(manifest(lambda t: t.assign(id=[f"x{i}" for i in range(12)]))).table["id"][0] == "x0"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_the_separator_is_found(manifest, separator):
    assert len(read(manifest(sep=separator)).table) == 12


def test_a_parquet_manifest_reads_the_same(manifest, tmp_path):
    spec = manifest()
    pd.read_csv(tmp_path / "m.csv").to_parquet(tmp_path / "m.parquet")
    parquet = spec.model_copy(update={"source": str(tmp_path / "m.parquet")})
    pd.testing.assert_frame_equal(read(spec, group="person").table, read(parquet, group="person").table)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda t: t.rename(columns={"label": "lable"}), {}, r"has no column 'label' \(data.targets\); did you mean 'lable'"),
        (lambda t: t, {"group": "persn"}, "did you mean 'person'"),
        (lambda t: t.assign(path="p/0.png"), {}, "ids stand twice, such as 'p/0.png'"),
        (lambda t: t.assign(path=t["path"].replace("p/3.png", "p/x.png")), {}, r"no such image under .* in row 5 \(p/x.png\)"),
        (lambda t: t.assign(path=t["path"].replace("p/3.png", "../up.png")), {}, r"leads outside .* in row 5 \(../up.png\)"),
        (lambda t: t.assign(path=t["path"].replace("p/3.png", "/etc/passwd")), {}, r"leads outside .* in row 5"),
        (lambda t: t.assign(label=t["label"].where(t.index != 3, "")), {}, "label is empty in row 5"),
        (lambda t: t.assign(label="a"), {}, "has the one class 'a'; two are needed"),
        (lambda t: t.assign(label=t["label"].where(t.index != 0, "A")), {}, "'A' and 'a'.*make them one"),
        (lambda t: t, {"keep": ("a", "c")}, "data.keep names 'c', which no row has"),
        (lambda t: t, {"classes": ("a", "b")}, "labels that its classes do not name: 9, 10"),
        (lambda t: t.head(0), {}, "has a header and no rows"),
    ],
)  # fmt: skip
def test_every_fault_of_a_table_names_file_and_row(manifest, change, options, message):
    with pytest.raises(DataError, match=message):
        read(manifest(change), **options)


def test_all_faults_of_a_table_come_at_once(manifest):
    spoil = lambda t: t.assign(label="", path=t["path"].replace({"p/1.png": "q", "p/2.png": "../z"}))  # noqa: E731
    with pytest.raises(DataError) as caught:
        read(manifest(spoil))
    assert len(str(caught.value).splitlines()) == 3


def test_a_label_only_in_the_test_part_is_named(manifest, tmp_path):
    image(tmp_path / "p" / "t.png")
    pd.DataFrame({"path": ["p/t.png"], "label": ["zebra"]}).to_csv(tmp_path / "t.csv", index=False)
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
        header = bytes([0, 0, 8, 3]) + b"".join(int(k).to_bytes(4, "big") for k in pixels.shape)
        (tmp_path / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + pixels.tobytes()))
        labels = np.arange(n, dtype=np.uint8) % 10
        content = bytes([0, 0, 8, 1]) + n.to_bytes(4, "big") + labels.tobytes()
        (tmp_path / f"{name}-labels-idx1-ubyte").write_bytes(content)
    samples = read_samples(DataSpec(source="fashion-mnist", root=str(tmp_path), limit=20), FOLDS)
    assert samples.table["split"].value_counts().to_dict() == {"train": 20, "test": 10}
    assert samples.classes["label"][9] == "Ankle boot"
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"no gzip")
    with pytest.raises(DataError, match="is not a whole gzip file"):
        read_samples(DataSpec(source="fashion-mnist", root=str(tmp_path)), FOLDS)


def test_new_images_of_a_folder_or_table_have_ids(folder, manifest):
    ids, images = read_unlabelled(folder, DataSpec(source="x"))
    assert (len(ids), len(images)) == (12, 12)
    spec = manifest()
    assert read_unlabelled(folder.parent / "m.csv", spec)[0][0] == "p/0.png"


def test_a_source_that_is_not_there_says_what_was_expected(tmp_path):
    with pytest.raises(DataError, match="does not exist; expected a folder, a CSV or Parquet file, or one of digits"):
        read_samples(DataSpec(source=str(tmp_path / "gone")), FOLDS)

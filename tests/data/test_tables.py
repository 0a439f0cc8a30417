import pandas as pd
import pytest

from ensembler.data.spec import DataSpec
from ensembler.data.tables import need_column, read_table
from ensembler.errors import DataError


def read(path, content=None, **options):
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_table(path, DataSpec(source=str(path), **options))


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_the_one_that_the_header_has_most_of(tmp_path, separator):
    lines = [separator.join(row) for row in (["path", "label"], ["a.png", "x,y;z"])]
    lines[1] = separator.join(["a.png", '"x,y;z"'])
    table = read(tmp_path / "t.csv", "\n".join(lines) + "\n")
    assert table.to_dict("list") == {"path": ["a.png"], "label": ["x,y;z"]}


def test_every_value_is_text_as_it_stands(tmp_path):
    table = read(tmp_path / "t.csv", "a,b,c\n007,NA,1e3\n,null,True\n")
    assert table.to_dict("list") == {
        "a": ["007", ""],
        "b": ["NA", "null"],
        "c": ["1e3", "True"],
    }


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    table = read(tmp_path / "t.csv", b"\xef\xbb\xbfpath,label\na,b\n")
    assert table.columns.tolist() == ["path", "label"]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", {}, "is empty"),
        ("a,b\n", {}, "a header and no rows"),
        ("a,b\n1,2,3\n", {}, "rows have more values than the header"),
        ("a,b\nK\xe4se,2\n".encode("latin-1"), {}, "say data.encoding"),
        ("a,b\n1,2\n", {"encoding": "no-such"}, "is not an encoding"),
    ],
)
def test_what_is_no_table_is_named_with_what_was_tried(tmp_path, content, options, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path / "t.csv", content, **options)


def test_another_encoding_is_read_when_it_is_named(tmp_path):
    table = read(tmp_path / "t.csv", "a\nK\xe4se\n".encode("latin-1"), encoding="latin-1")
    assert table["a"].tolist() == ["Käse"]


def test_numbers_of_a_parquet_file_are_the_text_that_a_csv_would_have(tmp_path):
    pytest.importorskip("pyarrow")
    table = pd.DataFrame({"i": [1, 2], "f": [1.0, None], "s": ["x", None]})
    table.to_parquet(tmp_path / "t.parquet")
    found = read(tmp_path / "t.parquet")
    assert found.to_dict("list") == {"i": ["1", "2"], "f": ["1", ""], "s": ["x", ""]}
    with pytest.raises(DataError, match="not a readable Parquet file"):
        read(tmp_path / "bad.parquet", b"PAR1 not at all")


def test_a_column_is_needed_once(tmp_path):
    table = read(tmp_path / "t.csv", "label,twice,twice\na,b,c\n")
    need_column(table, "label", "data.targets", tmp_path)
    with pytest.raises(DataError, match=r"no column 'lable'.*did you mean 'label'"):
        need_column(table, "lable", "data.targets", tmp_path)
    with pytest.raises(DataError, match="2 columns called 'twice'"):
        need_column(table, "twice", "data.group", tmp_path)

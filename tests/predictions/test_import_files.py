"""Damaged, hostile and careless files are one clear line, whatever they claim."""

import io
import os
import resource
import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest

from ensembler.errors import RequestError
from ensembler.predictions.importing.import_ import MemberFiles, import_predictions
from ensembler.predictions.store import RunStore


@pytest.fixture
def folder(tmp_path):
    labels = ["cat", "dog", "eel"] * 4
    pd.DataFrame({"id": [f"r{i}" for i in range(12)], "label": labels}).to_csv(
        tmp_path / "labels.csv", index=False
    )
    return tmp_path


def bring(folder, path, **options):
    options = {"labels": folder / "labels.csv", "by_position": True, **options}
    return import_predictions(folder / "run", [MemberFiles("a", path)], **options)


def npz(folder, **arrays):
    np.savez_compressed(folder / "a.npz", **arrays)
    return folder / "a.npz"


def header(folder, shape, descr="<f4"):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": descr, "fortran_order": False, "shape": shape}
    )
    (folder / "a.npy").write_bytes(file.getvalue() + bytes(64))
    return folder / "a.npy"


def damaged(folder, at=None, length=None):
    path = npz(folder, probs=np.random.default_rng(0).dirichlet(np.ones(3), 12))
    content = bytearray(path.read_bytes())
    if at is not None:
        content[at] ^= 0xFF
    path.write_bytes(bytes(content)[:length])
    return path


def bomb(folder):
    """A few MB of zeros, squeezed, that claim 12 rows of many folds."""
    path = folder / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        file = io.BytesIO()
        shape = (10**12, 12, 3)
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": shape}
        )
        archive.writestr("a.npy", file.getvalue() + bytes(1_000_000))
    return path


def pipe(folder):
    os.mkfifo(folder / "a.npy")
    return folder / "a.npy"


def table(folder, text, name="a.csv"):
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: npz(f, probs=np.array([{}] * 12, object)), "needs pickle, which can run code"),
        (lambda f: npz(f, a=np.ones(3), b=np.ones(3)), "holds a, b; expected one array"),
        (lambda f: damaged(f, at=200), "cannot be read"),
        (lambda f: damaged(f, length=150), "cannot be read"),
        (lambda f: header(f, (10**13, 3)), r"has 10000000000000 rows, .* has 12"),
        (lambda f: header(f, (10**12, 12, 3)), r"header claims an array of \[1000000000000, 12, "
                                               r"3\], 144000 GB"),
        (lambda f: header(f, (2, 12, 3)), "it holds 64 bytes of numbers, and its header claims "
                                          "288"),
        (bomb, "header claims an array of"),
        (pipe, "is no regular file"),
        (lambda f: f, "is no regular file"),
        (lambda f: header(f, (12, 3), "|V4"), "cannot be read|holds"),
        (lambda f: table(f, "no numpy", "a.npy"), "cannot be read"),
        (lambda f: table(f, "no parquet", "a.parquet"), "is not a readable Parquet file"),
        (lambda f: table(f, "id,cat,dog,eel,cat\n"), "has the column 'cat' twice"),
        (lambda f: table(f, "id,cat,dog,eel\n"), "has a header and no rows"),
        (lambda f: table(f, ""), "is not a readable CSV"),
        (lambda f: table(f, "id,cat,dog,eel\nr0,1,0,0,0\n"), "more values than the header"),
    ],
)  # fmt: skip
def test_a_file_of_predictions_that_cannot_be_used_is_one_line(folder, make, message):
    if "arquet" in message:
        pytest.importorskip("pyarrow")
    with pytest.raises(RequestError, match=message) as caught:
        bring(folder, make(folder))
    assert "\n" not in str(caught.value)
    assert not (folder / "run").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,label\n", "has a header and no rows"),
        ("id,label,label\nr0,cat,dog\n", "has the column 'label' twice"),
        ("id,label\nr0,cat\n,dog\n", "row 3: id is empty"),
        ("id,label\nr0,cat\n  ,dog\n", "row 3: id is empty"),
        ("id,label\nr0,cat\nr1, \n", "row 3: label is empty"),
        ('id,label\nr0,cat\n"r\r1",dog\n', r"id 'r\\r1' has a control character"),
        ('id,label\nr0,cat\nr1,"d\rog"\n', r"label 'd\\rog' has a control character"),
        (
            "id,label,group\nr0,cat,a\nr1,dog,b\x07\n",
            r"group 'b\\x07' has a control character",
        ),
        ("id,label\nr0,cat\nr1,cat \n", "labels 'cat' and 'cat ' differ only in spaces"),
    ],
)
def test_a_table_of_labels_that_cannot_be_used_is_one_line(folder, text, message):
    (folder / "labels.csv").write_bytes(text.encode())
    np.save(folder / "a.npy", np.eye(2, dtype=np.float32))
    with pytest.raises(RequestError, match=message):
        bring(folder, folder / "a.npy")
    assert not (folder / "run").exists()


def test_complex_numbers_are_no_predictions(folder):
    np.save(folder / "a.npy", np.full((12, 3), 1 / 3 + 1j))
    with pytest.raises(RequestError, match="holds complex128, expected real numbers"):
        bring(folder, folder / "a.npy")


def test_an_npz_is_read_whatever_its_order_in_memory(folder):
    probs = np.random.default_rng(0).dirichlet(np.ones(3), 12).astype(np.float32)
    bring(folder, npz(folder, ids=np.arange(12), probs=np.asfortranarray(probs)))
    assert np.allclose(
        RunStore(folder / "run").member("a").oof(("cat", "dog", "eel")), probs, atol=1e-6
    )


def test_quotes_commas_and_line_feeds_in_names_are_kept(folder):
    ids = ['a,"b"', "two\nlines", " spaces ", "NA"] * 3
    ids = [f"{name}{i}" for i, name in enumerate(ids)]
    labels = ['a "cat"', "dog,\neel", "None"] * 4
    pd.DataFrame({"id": ids, "label": labels}).to_csv(folder / "labels.csv", index=False)
    np.save(folder / "a.npy", np.full((12, 3), 1 / 3))
    bring(folder, folder / "a.npy")
    samples = RunStore(folder / "run").samples.train
    assert samples["id"].tolist() == ids
    assert samples["label"].tolist() == labels


def test_a_file_that_claims_more_than_memory_is_refused_by_the_command_too(folder):
    """Under a limit of memory, where allocating what the header claims would fail."""
    path = header(folder, (1000, 12, 3_000_000))
    limit = 8 << 30
    done = subprocess.run(
        [
            sys.executable, "-m", "ensembler", "import", "run", "--labels", folder / "labels.csv",
            "--member", f"a={path}", "--by-position", "--classes", "cat,dog,eel",
        ],
        cwd=folder, capture_output=True, text=True, check=False, timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "classes on its last axis, expected 3" in done.stderr

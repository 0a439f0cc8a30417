"""Labels that a recipe corrects from a file."""

import pandas as pd
import pytest
from PIL import Image

from ensembler.data.corrections import corrections_csv
from ensembler.data.samples import read_samples
from ensembler.data.spec import CorrectionsSpec, DataSpec, FoldSpec
from ensembler.errors import DataError

FOLDS = FoldSpec()


@pytest.fixture
def corrected(tmp_path):
    """Read a dozen samples with the corrections that are given as rows of a CSV."""
    rows = []
    for i in range(12):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / f"{i}.png")
        rows.append({"path": f"{i}.png", "label": "ab"[i % 2], "tags": ["x", "x y"][i % 2]})
    pd.DataFrame(rows).to_csv(tmp_path / "m.csv", index=False)

    def read(header, *lines, targets="label", faults=None, **options):
        (tmp_path / "fixes.csv").write_text("\n".join([header, *lines]) + "\n")
        spec = CorrectionsSpec(file=str(tmp_path / "fixes.csv"), **options)
        data = DataSpec(source=str(tmp_path / "m.csv"), targets=targets, corrections=spec)
        return read_samples(data, FOLDS, faults)

    return read


HEADER = "id,given,suggested,confidence"


def labels(samples, column="label"):
    return dict(zip(samples.table["id"], samples.table[column], strict=True))


def test_rows_are_relabelled_and_each_change_is_said(corrected):
    samples = corrected(HEADER, "0.png,a,b,0.9", "3.png,b,a,0.8")
    assert labels(samples)["0.png"] == "b"
    assert labels(samples)["3.png"] == "a"
    assert labels(samples)["1.png"] == "b"
    (remark,) = samples.remarks
    assert remark.code == "corrected"
    assert "2 rows relabelled: 0.png, 3.png" in remark.message
    kept = corrections_csv(samples.corrections).decode().splitlines()
    assert kept[:2] == ["id,target,given,label,action", "0.png,label,a,b,relabel"]


def test_rows_are_left_out(corrected):
    samples = corrected(HEADER, "0.png,a,b,0.9", action="drop")
    assert "0.png" not in labels(samples)
    assert len(samples.images) == 11
    assert samples.images.read(0)[0, 0, 0] == 1  # image 1: the images moved along


def test_rows_are_down_weighted(corrected):
    samples = corrected(HEADER, "0.png,a,b,0.9", action="weight", weight=0.25)
    weights = labels(samples, "weight")
    assert weights["0.png"] == 0.25
    assert weights["1.png"] == 1.0
    assert labels(samples)["0.png"] == "a"


def test_a_row_may_say_what_is_done_with_it(corrected):
    samples = corrected(f"{HEADER},action", "0.png,a,b,0.9,drop", "1.png,b,a,0.9,")
    assert "0.png" not in labels(samples)
    assert labels(samples)["1.png"] == "a"


def test_rows_below_a_confidence_are_not_taken(corrected):
    samples = corrected(HEADER, "0.png,a,b,0.9", "1.png,b,a,0.4", min_confidence=0.5)
    assert labels(samples)["0.png"] == "b"
    assert labels(samples)["1.png"] == "b"


def test_what_the_table_has_corrected_itself_is_passed_over(corrected):
    samples = corrected(HEADER, "0.png,b,a,0.9")
    assert samples.corrections == ()
    assert samples.remarks == ()


def test_sets_of_labels_are_corrected_whole(corrected):
    targets = {"tags": {"multi_label": " "}}
    samples = corrected(HEADER, "0.png,x,y|x,0.9", targets=targets)
    assert labels(samples, "tags")["0.png"] == "x|y"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("99.png,a,b,0.9", "no train row has the id '99.png'"),
        ("0.png,b,c,0.9", "no row of label is labelled 'c'"),
        ("0.png,b,b,0.9", "labelled .a., given there as .b."),
        ("1.png,a,a,0.9", "'1.png' is labelled 'b', given there as 'a'"),
        ("0.png,a,,0.9", "row 2: suggested is empty"),
        ("0.png,,b,0.9", "row 2: given is empty"),
        ("0.png,a,b,much", "confidence is 'much'"),
        ("0.png,a,b,0.9\n0.png,a,b,0.8", "corrected in several rows"),
    ],
)
def test_what_does_not_fit_is_named(corrected, line, message):
    with pytest.raises(DataError, match=message):
        corrected(HEADER, line)


def test_an_unknown_action_target_or_missing_column_is_named(corrected):
    with pytest.raises(DataError, match="did you mean 'relabel'"):
        corrected(f"{HEADER},action", "0.png,a,b,0.9,relable")
    with pytest.raises(DataError, match="'colour' is no target"):
        corrected(f"{HEADER},target", "0.png,a,b,0.9,colour")
    with pytest.raises(DataError, match="suggested"):
        corrected("id,given", "0.png,a")
    with pytest.raises(DataError, match="confidence"):
        corrected("id,given,suggested", "0.png,a,b", min_confidence=0.5)


def test_an_audit_passes_over_rows_that_it_left_out(corrected):
    samples = corrected(HEADER, "99.png,a,b,0.9", "0.png,a,b,0.9", faults=[])
    assert [correction.id for correction in samples.corrections] == ["0.png"]

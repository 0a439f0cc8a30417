from ensembler.audit.audit import Audit
from ensembler.audit.findings import Finding
from ensembler.audit.tables import count_tables, findings_table


def test_rows_are_counted_by_class_and_split():
    counts = {"classes": {"label": {"cat": {"train": 3, "test": 1}, "dog": {"train": 2}}}}
    (table,) = count_tables(Audit((), counts))
    assert table.columns == ("class", "train", "test")
    assert table.texts() == [["cat", "3", "1"], ["dog", "2", "0"]]


def test_findings_are_a_table_with_the_verdict_below():
    finding = Finding(
        "duplicate", "warning", "two images are the same", "data.on_duplicate: drop"
    )
    audit = Audit((finding,), {})
    table = findings_table(audit)
    assert table.rows == (
        ("warning", "duplicate", "two images are the same", "data.on_duplicate: drop"),
    )
    assert table.notes == (audit.verdict,)

"""Findings in the order in which they hurt, and as JSON."""

from ensembler.audit.findings import (
    CODES_BY_SEVERITY,
    INFLATES_SCORES,
    Finding,
    sorted_by_severity,
)


def test_errors_come_first_and_then_what_inflates_scores():
    found = [
        Finding("mixed_modes", "note", "m"),
        Finding("rare_class", "warning", "r"),
        Finding("group_leak", "warning", "g"),
        Finding("folds", "error", "f"),
        Finding("one_of_anothers", "warning", "o"),
    ]
    codes = [finding.code for finding in sorted_by_severity(found)]
    assert codes == ["folds", "group_leak", "rare_class", "one_of_anothers", "mixed_modes"]


def test_a_finding_says_its_fix_under_both_keys():
    content = Finding("tiny", "warning", "m", "look", ("a.png",), {"n": 1}).to_json()
    assert content["fix"] == content["mend"] == "look"
    assert (content["files"], content["n"]) == (["a.png"], 1)


def test_what_inflates_scores_has_a_place_in_the_order():
    assert set(INFLATES_SCORES) <= set(CODES_BY_SEVERITY)
    assert len(set(CODES_BY_SEVERITY)) == len(CODES_BY_SEVERITY)

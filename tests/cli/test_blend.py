"""`ens blend` and `ens diversity` on an invented run."""

import json

import pytest

from ensembler.predictions.testing import write_fake_run


@pytest.fixture
def run(tmp_path):
    return write_fake_run(
        tmp_path / "artifacts" / "fake",
        {"good": 2.0, "fair": 1.2, "poor": 0.6},
        n_train=150,
    )


def test_explain_shows_the_search_the_worth_and_the_reliability(ens_here, run):
    out = ens_here(
        "blend",
        "fake",
        "--method",
        "greedy",
        "--explain",
        "--costs",
        "good=3,fair=2,poor=1",
    ).stdout
    for words in (
        "worse without",
        "rounds of the search",
        "reliability of best member",
        "score against inference time",
    ):
        assert words in out
    out = ens_here("blend", "fake", "--explain").stdout
    assert "families compared" in out


def test_weights_scores_alone_and_worths_stand_in_the_json(ens_here, run):
    blend = json.loads(ens_here("blend", "fake", "--method", "simplex", "--json").stdout)
    worths = {w["member"]: w for w in blend["details"]["members"]}
    assert set(worths["good"]) == {"member", "weight", "solo", "marginal"}
    assert worths["good"]["marginal"] > worths["poor"]["marginal"]


def test_members_are_pruned_priced_and_calibrated_when_asked(ens_here, run):
    one = json.loads(
        ens_here(
            "blend", "fake", "--max-cost", "3", "--costs", "good=3,fair=2,poor=1", "--json"
        ).stdout
    )
    assert one["members"] == [
        "good"
    ]  # better alone than the two others, which cost as much
    plain = json.loads(ens_here("blend", "fake", "--method", "soft", "--json").stdout)
    two = json.loads(
        ens_here(
            "blend", "fake", "--method", "soft", "--calibrate", "temperature", "--json"
        ).stdout
    )
    assert (
        0 < two["temperature"] < 1
    )  # a mean of several members is less certain than it might be
    assert two["scores"]["fitted"]["log_loss"] < plain["scores"]["fitted"]["log_loss"]
    assert two["scores"]["fitted"]["accuracy"] == plain["scores"]["fitted"]["accuracy"]
    three = json.loads(
        ens_here("blend", "fake", "--method", "soft", "--prune", "0.9", "--json").stdout
    )
    assert three["members"] == ["good"]
    assert {w["code"] for w in three["warnings"]} >= {"pruned"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-cost", "1"], "--costs fair=0.01"),
        (["--costs", "good"], "expected seconds by member"),
        (["--calibrate", "hot"], "calibrate is 'hot'"),
        (["--prune", "2"], "prune is 2.0"),
        (["--members", "blend:none,good"], "unknown blend 'none'"),
        (
            ["--method", "greedy", "--option", "rounds=many"],
            "rounds is 'many', expected a whole number from 1",
        ),
        (
            ["--method", "greedy", "--option", "rounds=2.5"],
            "rounds is 2.5, expected a whole number from 1",
        ),
        (
            ["--method", "hill_climb", "--option", "step=0"],
            "step is 0, expected a number above 0",
        ),
        (
            ["--method", "loglinear", "--option", "inputs=logits"],
            "blended by their probabilities",
        ),
        (
            ["--method", "loglinear", "--option", "inputs=logit"],
            "inputs is 'logit'; did you mean 'logits'?",
        ),
    ],
)
def test_a_wrong_request_is_one_clear_error(ens_here, run, arguments, message):
    assert message in ens_here("blend", "fake", *arguments, expect=2).stderr


def test_diversity_as_table_json_and_page(ens_here, run, tmp_path):
    out = ens_here("diversity", "fake", "--html", "d.html").stdout
    assert "disagreement" in out
    assert "rows saved" in out
    page = (tmp_path / "d.html").read_text()
    assert page.count("<svg") == 3
    assert "http://" not in page.replace("http://www.w3.org", "").replace(
        "http://purl.org", ""
    ).replace("http://creativecommons.org", "")
    found = json.loads(ens_here("diversity", "fake", "--json").stdout)
    assert len(found["disagreement"]) == 3
    assert set(found["names"]) == {"good", "fair", "poor"}


def test_diversity_of_one_member_is_refused(ens_here, run):
    assert (
        "differences need two"
        in ens_here("diversity", "fake", "--members", "good", expect=2).stderr
    )


def test_a_blend_that_is_worse_than_a_member_is_called_worse(ens_here, run):
    assert (
        "worse, beyond noise"
        in ens_here("blend", "fake", "--weights", "good=1,poor=9").stdout
    )


def test_remarks_reach_the_user_and_the_json(ens_here, run):
    done = ens_here(
        "blend", "fake", "--method", "rank", "--metric", "quadratic_kappa", "--json"
    )
    codes = {w["code"] for w in json.loads(done.stdout)["warnings"]}
    assert codes >= {"not_probabilities", "ordered_classes"}
    assert (
        "squared distance of its classes"
        in ens_here("evaluate", "fake", "--metrics", "quadratic_kappa").stdout
    )


@pytest.mark.parametrize(
    "command", [("blend", "fake", "--metric"), ("evaluate", "fake", "--metrics")]
)
def test_the_old_name_of_the_kappas_is_refused_with_both_new_ones(ens_here, run, command):
    said = ens_here(*command, "cohen_kappa", expect=2).stderr
    assert "quadratic_kappa" in said
    assert "unweighted_kappa" in said


def test_weights_whose_sum_is_no_number_are_refused(ens_here, fake_run):
    done = ens_here("blend", "fake", "--weights", "a=1e308,b=1e308", expect=2)
    assert "should be finite, not negative and not all zero" in done.stderr


def test_a_member_that_is_asked_for_as_a_blend_is_told_from_one(ens_here, run):
    error = ens_here("submit", "fake", "--blend", "good", expect=2).stderr
    assert (
        "'good' is a member, not a blend; `ens blend fake --method single --members good"
        in error
    )


def test_weights_that_are_missing_are_asked_for_as_the_command_takes_them(ens_here, run):
    assert (
        "--weights a=2,b=1 on the command line"
        in ens_here("blend", "fake", "--method", "weights", expect=2).stderr
    )

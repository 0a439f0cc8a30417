import pytest

from ensembler.errors import RequestError
from ensembler.metrics import check_metric, score
from ensembler.metrics.renamed import first_name, with_names_of_today
from ensembler.training.spec import MemberSpec


@pytest.mark.parametrize(
    "use",
    [
        check_metric,
        lambda name: score(name, [[1.0, 0.0]], [0]),
        lambda name: MemberSpec(backbone="resnet18", choose="best", choose_by=name),
    ],
)
def test_the_old_kappa_is_an_error_that_names_both_new_ones(use):
    with pytest.raises(
        ValueError, match=r"'cohen_kappa' is not.*quadratic_kappa.*unweighted_kappa"
    ):
        use("cohen_kappa")
    with pytest.raises(RequestError):
        check_metric("cohen_kappa")


def test_a_record_with_the_old_kappa_is_read_with_todays_name():
    recorded = {"metric": "cohen_kappa", "options": {"metric": "cohen_kappa", "rounds": 5}}
    assert with_names_of_today(recorded) == {
        "metric": "quadratic_kappa",
        "options": {"metric": "quadratic_kappa", "rounds": 5},
    }
    assert recorded["metric"] == "cohen_kappa"
    assert with_names_of_today({"choose_by": "f1_macro"}) == {"choose_by": "f1_macro"}


def test_a_member_chosen_by_the_old_kappa_is_still_the_same_member():
    assert first_name("quadratic_kappa") == "cohen_kappa"
    spec = MemberSpec(backbone="resnet18", choose="best", choose_by="quadratic_kappa")
    assert spec.decisive_options["choose_by"] == "cohen_kappa"

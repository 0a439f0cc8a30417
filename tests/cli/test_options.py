import pytest

from ensembler.cli.options import fold_numbers, names
from ensembler.errors import RequestError


def test_names_stand_between_commas():
    assert names("a, b,c") == ("a", "b", "c")
    assert names(None) is None


@pytest.mark.parametrize("given", ["", "a,,b", "a,", "a,a"])
def test_an_empty_name_or_one_that_comes_twice_is_refused(given):
    with pytest.raises(RequestError, match="none empty or twice"):
        names(given)


def test_folds_are_numbers():
    assert fold_numbers("0,2") == (0, 2)
    assert fold_numbers(None) is None
    for given in ("-1", "one", "1.0"):
        with pytest.raises(RequestError, match="--folds"):
            fold_numbers(given)

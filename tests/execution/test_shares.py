import pytest

from ensembler.execution.executors import executor_of
from ensembler.execution.processes import Processes
from ensembler.execution.shares import share_of_one, shares_of
from ensembler.execution.together import Together
from ensembler.machine.execution import Execution


@pytest.fixture
def with_cards(monkeypatch):
    from ensembler.networks import devices

    def of(*names):
        monkeypatch.setattr(devices, "cards", lambda _: names)

    return of


def test_one_card_has_one_process_and_several_a_process_each(with_cards):
    with_cards("cuda:0")
    assert isinstance(executor_of(Execution("cuda", processes=3)), Together)
    with_cards("cuda:0", "cuda:1")
    assert isinstance(executor_of(Execution("cuda", processes=3)), Processes)
    with_cards()
    assert isinstance(executor_of(Execution("cpu", processes=3)), Processes)


@pytest.mark.parametrize(
    ("cards", "n", "shares"),
    [
        ((), 2, [("cuda", 1), ("cuda", 1)]),
        (("cuda:0", "cuda:1"), 3, [("cuda:0", 2), ("cuda:1", 1)]),
        (("cuda:0", "cuda:1", "cuda:2"), 2, [("cuda:0", 1), ("cuda:1", 1)]),
        (("cuda:0",), 0, []),
    ],
)
def test_the_folds_are_shared_among_the_cards(with_cards, cards, n, shares):
    with_cards(*cards)
    found = shares_of(Execution("cuda", workers=4, processes=5), n)
    assert [(share.device, share.processes) for share in found] == shares
    assert all(share.workers == 4 for share in found)


def test_a_fold_of_several_is_trained_by_itself():
    assert share_of_one(Execution("cpu", processes=3), 3) == Execution("cpu", workers=0)

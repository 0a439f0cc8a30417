import pytest

from ensembler.errors import RequestError
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


@pytest.mark.parametrize(
    ("device", "jobs", "shares"),
    [
        ("cpu,cpu", 1, [("cpu", 1), ("cpu", 1)]),
        ("cpu,mps", 3, [("cpu", 1), ("mps", 1), ("cpu", 1)]),
    ],
)
def test_folds_are_spread_over_the_devices_that_are_named(device, jobs, shares):
    asked = Execution.on(device, workers=1, processes=jobs)
    assert isinstance(executor_of(asked), Processes)
    found = shares_of(asked, asked.processes)
    assert [(share.device, share.processes) for share in found] == shares
    assert all(share.devices == () for share in found)


def test_several_cards_that_are_named_have_a_process_each():
    asked = Execution.on("cuda:1,cuda:3", workers=1, processes=4)
    found = shares_of(asked, 4)
    assert [(share.device, share.processes) for share in found] == [
        ("cuda:1", 2),
        ("cuda:3", 2),
    ]
    assert asked.device == "cuda:1"  # what else there is to do


@pytest.mark.parametrize("device", ["cuda,cuda:1", "auto,cpu", "cuda:0,cuda:0", "cpu,"])
def test_a_list_of_devices_names_each_once(device):
    with pytest.raises(RequestError, match="expected each device once"):
        Execution.on(device)

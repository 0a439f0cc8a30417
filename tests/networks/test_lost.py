import pytest
import torch

from ensembler.errors import DeviceLostError, TrainingError
from ensembler.members.fold import concerns_all
from ensembler.networks import devices
from ensembler.networks.lost import lost_device

GONE = "CUDA error: the launch timed out and was terminated\nand advice on debugging"


@pytest.fixture
def gone(monkeypatch):
    """A CUDA device after an error that stays."""

    def compute(device):
        raise RuntimeError(GONE)

    monkeypatch.setattr(devices, "compute_something", compute)


def test_a_device_that_computes_nothing_more_ends_the_job_with_one_line(gone):
    with (
        pytest.raises(DeviceLostError) as caught,
        lost_device(torch.device("cuda:1")),
    ):
        raise RuntimeError(GONE)
    assert str(caught.value) == (
        "cuda:1 does not compute any more (CUDA error: the launch timed out and was terminated); "
        "what is finished is kept, and the same command resumes when the device is back, or with "
        "--device cpu"
    )
    assert concerns_all(caught.value)


def test_other_errors_are_left_as_they_are(gone, monkeypatch):
    for error in (torch.OutOfMemoryError("full"), TrainingError("not finite")):
        with pytest.raises(type(error)), lost_device(torch.device("cuda")):
            raise error
    monkeypatch.setattr(devices, "compute_something", lambda _: None)
    with pytest.raises(RuntimeError, match="shapes"), lost_device(torch.device("cuda")):
        raise RuntimeError("shapes do not fit")

import pytest
import torch

from ensembler.errors import OutOfMemoryError, RequestError
from ensembler.networks.memory import in_parts, is_out_of_memory, memory_advice

FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore.")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FULL, True),
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("shapes differ"), False),
        (ValueError("MPS backend out of memory"), False),
    ],
)
def test_want_of_memory_is_known_on_every_device(error, expected):
    assert is_out_of_memory(error) is expected


def computing_at_most(n, seen):
    def compute(images):
        if len(images) > n:
            raise FULL
        seen.append(len(images))
        return images.sum(dim=1)

    return compute


def test_a_batch_is_halved_until_it_fits_and_gives_the_same():
    images, seen = torch.arange(20.0).reshape(10, 2), []
    parts = in_parts(computing_at_most(3, seen), images)
    assert torch.equal(torch.cat(parts), images.sum(dim=1))
    assert max(seen) <= 3


def test_one_image_that_does_not_fit_and_other_errors_are_raised():
    with pytest.raises(torch.OutOfMemoryError):
        in_parts(computing_at_most(0, []), torch.zeros(4, 2))
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        in_parts(lambda images: images @ torch.zeros(3, 3), torch.zeros(4, 2))


def advised(**options):
    with pytest.raises(OutOfMemoryError) as caught, memory_advice(size=224, **options):
        raise FULL
    return str(caught.value)


def test_the_advice_names_what_needs_less():
    text = advised(batch_size=32, amp="auto", accumulate=1)
    assert "batch_size: 16 with accumulate: 2" in text
    assert "a size below 224" in text
    assert "amp: auto" not in text
    assert text.endswith("(CUDA out of memory. Tried to allocate 2.00 GiB.)")


def test_a_batch_of_one_cannot_be_smaller_and_float32_can():
    text = advised(batch_size=1, amp="off")
    assert "batch_size:" not in text.partition(";")[2]
    assert "amp: auto" in text


def test_an_error_with_advice_of_its_own_keeps_it():
    with (
        pytest.raises(RequestError, match="mine"),
        memory_advice(batch_size=2, size=8, amp="off"),
    ):
        raise RequestError("mine")

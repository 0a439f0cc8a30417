"""What a fitted blend has learned, as arrays and plain values."""

import json
import struct

import numpy as np
import pytest

from ensembler.blending.state import State
from ensembler.errors import NotKeptError


def test_bytes_give_back_arrays_of_every_kind_and_plain_values_to_the_last_bit():
    arrays = {
        "row": np.random.default_rng(0).normal(size=5),
        "matrix": np.arange(6, dtype=np.float32).reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "flags": np.array([True, False]),
        "nothing": np.empty((0, 3)),
        "bytes": np.frombuffer(b"abc", np.uint8),
    }
    learned = {
        **arrays,
        "third": 1 / 3,
        "none": None,
        "names": ["a", "ü"],
        "n": np.int64(3),
    }
    found = State.from_bytes(State.of(learned).to_bytes())
    assert found.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found.arrays[name].dtype == array.dtype
        assert np.array_equal(found.arrays[name], array)
    assert found.values == {"third": 1 / 3, "none": None, "names": ["a", "ü"], "n": 3}


def test_equal_states_are_equal_bytes():
    state = State.of({"w": np.ones(2), "b": np.zeros(1), "x": 1, "names": ["a", "b"]})
    assert len({state.to_bytes() for _ in range(12)}) == 1


def test_a_state_of_an_earlier_version_is_read():
    found = State.from_bytes(
        container({"__metadata__": {"format": "1", "state": '{"x": 1}'}})
    )
    assert found.values == {"x": 1}


def test_a_part_is_found_again_by_its_name_in_a_part_too():
    inner = State.of({"w": np.ones(2), "x": 1})
    middle = State.of({"y": 2}).with_part("inner", inner)
    outer = State.from_bytes(
        State.of({"w": np.zeros(1)}).with_part("middle", middle).to_bytes()
    )
    assert sorted(outer.arrays) == ["middle.inner.w", "w"]
    again = outer.part("middle").part("inner")
    assert again.values == {"x": 1}
    assert np.array_equal(again.arrays["w"], [1, 1])


@pytest.mark.parametrize("value", [object(), {1: "a"}, [print], {"a": {1, 2}}])
def test_what_is_neither_an_array_nor_a_plain_value_is_not_kept(value):
    with pytest.raises(NotKeptError, match="strange is a"):
        State.of({"strange": value})


def container(header, data=b""):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no safetensors file",
        container({}),
        container({"__metadata__": {"format": "2", "state": "{}"}}),
        container({"__metadata__": {"format": "1", "state": "[]"}}),
        container({"__metadata__": {"format": "1", "state": "{"}}),
        container({"__metadata__": {"ensembler": '{"format": "2", "state": {}}'}}),
        container({"__metadata__": {"ensembler": "[]"}}),
        container(
            {"a": {"dtype": "F64", "shape": [9], "data_offsets": [0, 8]}}, b"12345678"
        ),
    ],
)
def test_other_bytes_are_refused(content):
    with pytest.raises(ValueError):  # noqa: PT011 whoever reads the file says which one it is
        State.from_bytes(content)

import os
import subprocess
import sys

import pytest

from ensembler.targets.natural_order import (
    in_natural_order,
    is_plain_number,
    natural,
    text_after_numbers,
)

# Names that are equal as numbers, that no number compares with, or that differ in case or zeros
# alone.
AWKWARD = [
    "1", "01", "1.0", "1e3", "1000", "1.1", "1.10", "1.2", "1.20", "nan", "NaN", "inf", "Infinity", "-0", "0",
    "a1", "a01", "A1", "a10", "a2", "cat", "Cat", "", "²", "٣", "9" * 5000, "b" + "9" * 5000,
]  # fmt: skip

ORDERS = """
import sys
from ensembler.targets.natural_order import in_natural_order, text_after_numbers
names = set(sys.stdin.read().split("|"))
print("|".join(in_natural_order(names)))
print("|".join(sorted(names, key=text_after_numbers)))
"""


def test_numbers_come_first_and_by_value_then_names_with_their_numbers_in_order():
    assert in_natural_order({"b10", "b2", "10", "2", "-1", "1.5"}) == (
        "-1",
        "1.5",
        "2",
        "10",
        "b2",
        "b10",
    )
    assert in_natural_order({"1.20", "1.1", "1.2", "1.10"}) == (
        "1.1",
        "1.10",
        "1.2",
        "1.20",
    )
    assert in_natural_order({"nan", "2", "0", "a", "1"}) == ("0", "1", "2", "nan", "a")


@pytest.mark.parametrize("key", [natural, text_after_numbers])
def test_no_two_names_have_one_place(key):
    keys = [key(name) for name in AWKWARD]
    assert len(set(keys)) == len(AWKWARD)
    for a in keys:
        for b in keys:
            assert (a < b) + (b < a) + (a == b) == 1


def test_the_order_is_one_in_processes_of_five_hash_seeds():
    found = set()
    for seed in range(5):
        environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
        done = subprocess.run(
            [sys.executable, "-c", ORDERS],
            input="|".join(AWKWARD), env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        found.add(done.stdout)
    assert len(found) == 1


def test_a_number_with_zeros_in_front_is_another_name():
    plain = [
        n
        for n in ("0", "7", "10", "00", "01", "+1", "1.0", "²", "", "-1")
        if is_plain_number(n)
    ]
    assert plain == ["0", "7", "10"]

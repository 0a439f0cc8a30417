"""Which views a recipe's blend takes when members of somebody else have others."""

from types import SimpleNamespace

import pytest

from ensembler.pipeline.run import _views

BOTH = ("identity", "hflip")


@pytest.mark.parametrize(
    ("own", "pulled", "expected"),
    [
        (BOTH, BOTH, None),
        (BOTH, ("identity",), None),
        ((*BOTH, "vflip"), BOTH, BOTH),
        ((*BOTH, "vflip"), ("identity",), ("identity",)),
        ((*BOTH, "vflip"), ("rot90",), None),
    ],
)
def test_a_view_that_a_pulled_member_lacks_is_left_out(own, pulled, expected):
    records = {
        "mine": SimpleNamespace(views=own, origin=None),
        "theirs": SimpleNamespace(views=pulled, origin="pulled"),
    }
    spec = SimpleNamespace(blend=SimpleNamespace(views=BOTH), views=())
    workspace = SimpleNamespace(spec=spec, members=())
    store = SimpleNamespace(member=lambda name: SimpleNamespace(record=records[name]))
    assert _views(workspace, store, list(records)) == expected

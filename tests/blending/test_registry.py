import subprocess
import sys

import pytest

from ensembler.blending import BLEND_METHODS, create_blend
from ensembler.blending.testing import invented_pool
from ensembler.errors import RequestError, UnknownNameError


def test_every_method_of_the_catalogue_loads_and_names_unknown_options():
    for name in BLEND_METHODS.names:
        with pytest.raises(
            RequestError, match="'nonsense' is not an option of the blend method"
        ):
            create_blend(name, nonsense=1)
    with pytest.raises(UnknownNameError, match="did you mean 'greedy'"):
        create_blend("gredy")


@pytest.mark.slow
def test_a_fresh_process_finds_the_same_bits():
    stack, y = invented_pool()
    found = [
        create_blend(name).fit(stack, y).predict_proba(stack).sum(axis=0).tolist()
        for name in ("greedy", "stack")
    ]
    script = (
        "from ensembler.blending import create_blend\n"
        "from ensembler.blending.testing import invented_pool\n"
        "stack, y = invented_pool()\n"
        "print([create_blend(n).fit(stack, y).predict_proba(stack).sum(axis=0).tolist() for n in "
        "('greedy', 'stack')])"
    )
    fresh = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    assert fresh.strip() == str(found)

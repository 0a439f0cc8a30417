import shutil

import pytest
from engine_trials import PIXELS, gap, get_ready, small

from ensembler.inference.engines import eager
from ensembler.inference.engines.choose import TOLERANCE
from ensembler.inference.predictor import as_images


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("g++") is None, reason="torch.compile needs a C++ compiler"
)
@pytest.mark.parametrize("amp", ["off", "bf16"])
def test_a_compiled_network_agrees_with_float32_for_batches_of_any_size(amp):
    notes = []
    predictor = get_ready("compile", small, amp=amp, notes=notes)
    reference = eager.plain(small(), "cpu")
    for n in (6, 3):
        images = as_images(PIXELS[:n], "cpu")
        assert gap(predictor(images), reference(images)) < (
            1e-5 if amp == "off" else TOLERANCE
        )
    assert notes == []

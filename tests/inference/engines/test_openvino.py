import subprocess
import sys

import pytest

from ensembler.inference.engines import registry


@pytest.mark.slow
@pytest.mark.skipif(
    not registry.is_installed("openvino"), reason="the extra openvino is not installed"
)
def test_openvino_finds_nothing_to_report_its_use_with():
    code = (
        "import torch; from ensembler.inference.engines import openvino\n"
        "images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)\n"
        "network = torch.nn.Flatten().eval()\n"
        "openvino.prepare(network, images, 'off', 'cpu')(images)\n"
        "from openvino.tools.ovc import convert_impl, telemetry_utils\n"
        "print(convert_impl.tm.__name__, telemetry_utils.tm.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == 2 * ["openvino.tools.ovc.telemetry_stub"]

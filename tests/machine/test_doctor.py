import json
import platform

import pytest

from ensembler.machine import doctor


def examine(devices=("cpu",), problems=()):
    return doctor.examine(lambda: (devices, problems))


def test_devices_and_their_problems_are_what_the_look_at_them_said():
    found = examine(["cuda:0 Card"], ["cuda:0 cannot compute"])
    assert found.devices == ("cuda:0 Card",)
    assert found.problems == ("cuda:0 cannot compute",)
    assert found.python == platform.python_version()


def test_an_extra_names_the_packages_that_are_missing(monkeypatch):
    monkeypatch.setattr(
        doctor, "find_spec", lambda module: None if module == "onnx" else object()
    )
    missing = {extra.name: extra.missing for extra in examine().extras}
    assert missing["onnx"] == ("onnx",)
    assert missing["train"] == ()


def test_a_package_that_is_not_installed_has_no_version(monkeypatch):
    monkeypatch.setitem(
        doctor.EXTRAS, "report", ("plots", {"no-such-package": "no_such_module"})
    )
    found = examine()
    assert "no-such-package" not in found.packages
    assert {"numpy", "pandas", "pydantic"} <= set(found.packages)


@pytest.mark.parametrize(
    "key", ["version", "python", "cores", "devices", "extras", "problems"]
)
def test_a_diagnosis_is_plain_values(key):
    assert key in json.loads(json.dumps(examine().to_json()))

import base64
import sys
import types

import numpy as np
import pytest

from ensembler.data.prepare import build_steps, prepare
from ensembler.errors import MissingExtraError, RequestError, UnknownNameError

# A network of one operation in ONNX, the mean of the three colours: what is bright is foreground.
BRIGHT = base64.b64decode(
    "CAg6cwowCgF4EgF5IgpSZWR1Y2VNZWFuKgsKBGF4ZXNAAaABByoPCghrZWVwZGltcxgBoAECEgFnWh0KAXgSGAoWCAESEgoCCAEKAggDCgMIwAIKAwjAAmIdCgF5EhgKFggBEhIKAggBCgIIAQoDCMACCgMIwAJCBAoAEA0="
)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("U2NET_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def fake_rembg(monkeypatch):
    """Modules that stand for rembg and onnxruntime: a session is asked for its file, and must never download one."""

    class U2netp:
        @staticmethod
        def name():
            return "u2netp"

        def __init__(self, model, options, providers):
            self.file = self.download_models()

        @classmethod
        def download_models(cls):
            raise AssertionError("a file would have been downloaded")

    class Remote(U2netp):
        @staticmethod
        def name():
            return "remote"

        @staticmethod
        def is_local():
            return False

    def remove(image, session):
        assert str(session.file).endswith("u2netp.onnx")
        return np.dstack([image, np.where(image[:, :, 0] > 100, 255, 0).astype(np.uint8)])

    modules = {
        "onnxruntime": {"SessionOptions": object},
        "rembg": {"remove": remove},
        "rembg.sessions": {"sessions_class": [U2netp, Remote]},
    }
    for name, content in modules.items():
        module = types.ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def disc():
    """A bright square before a dark ground."""
    image = np.full((60, 80, 3), 20, np.uint8)
    image[20:40, 30:50] = (240, 230, 220)
    return image


@pytest.mark.parametrize("place", ["u2netp.onnx", "models/u2netp/u2netp.onnx"])
def test_what_the_model_takes_for_background_is_grey(home, fake_rembg, disc, place):
    (home / place).parent.mkdir(parents=True, exist_ok=True)
    (home / place).write_bytes(b"weights")
    out = prepare(disc, build_steps(["rembg"]))
    assert (out[30, 40] == (240, 230, 220)).all()
    assert (out[5, 5] == 127).all()
    assert prepare(disc[:, :, 0], build_steps([{"rembg": "u2netp"}])).shape == disc.shape


def test_without_weights_or_rembg_the_error_says_what_to_do(home, monkeypatch):
    with pytest.raises(
        RequestError, match=rf"there is no u2netp\.onnx under {home}.*nothing is downloaded"
    ):
        build_steps(["rembg"])
    (home / "u2netp.onnx").write_bytes(b"weights")
    monkeypatch.setitem(sys.modules, "rembg", None)
    with pytest.raises(MissingExtraError, match=r"ensembler-toolkit\[rembg\]"):
        build_steps(["rembg"])


def test_a_model_that_runs_elsewhere_is_none(home, fake_rembg):
    (home / "remote.onnx").write_bytes(b"weights")
    with pytest.raises(UnknownNameError, match="rembg model 'remote'; choose from u2netp"):
        build_steps([{"rembg": "remote"}])


def test_rembg_itself_takes_weights_whose_checksum_it_does_not_know(home, disc):
    pytest.importorskip("rembg", reason="the extra rembg is not installed")
    (home / "u2netp.onnx").write_bytes(BRIGHT)
    out = prepare(disc, build_steps(["rembg"]))
    assert (
        out[30, 40].min() > 180
    )  # the model scales its mask by the brightest pixel of a blurred image
    assert np.abs(out[5, 5].astype(int) - 127).max() < 30
    (home / "u2netp.onnx").write_bytes(b"no network")
    with pytest.raises(RequestError, match="cannot be read"):
        build_steps(["rembg"])

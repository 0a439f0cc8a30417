import pytest
from engine_trials import get_ready

from ensembler.errors import MissingExtraError, RequestError, UnknownNameError
from ensembler.inference.engines import choose, registry
from ensembler.inference.spec import InferenceSpec


@pytest.mark.parametrize("engine", ["openvino", "onnx"])
def test_a_missing_extra_is_named_and_the_request_is_wrong(engine, monkeypatch):
    monkeypatch.setattr(registry, "find_spec", lambda _: None)
    with pytest.raises(
        MissingExtraError, match=rf"engine: {engine} needs the extra '{engine}'"
    ) as caught:
        get_ready(engine)
    assert isinstance(caught.value, RequestError)
    assert caught.value.exit_code == 2


def test_an_unknown_engine_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="did you mean 'openvino'"):
        InferenceSpec(engine="openvin")
    with pytest.raises(UnknownNameError, match="unknown engine"):
        choose.ENGINES.load("tensorrt")

import pickle

import pytest
import torch
from safetensors.torch import save_file

from ensembler.errors import DataError, RequestError, StoreError, UnknownNameError
from ensembler.networks.build import build_network, check_backbone, check_network
from ensembler.networks.checkpoint import load_checkpoint, read_description, save_checkpoint
from ensembler.networks.devices import pick_device
from ensembler.networks.spec import NetworkSpec

SHAPE = {"classes": 3, "size": 32, "channels": 3}


def network(**options):
    return build_network(NetworkSpec(backbone="test_resnet", **options), **SHAPE)


def test_a_network_takes_pixels_and_gives_logits_of_its_own_normalisation():
    net = network().eval()
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    config = net.network.pretrained_cfg
    by_hand = (pixels / 255 - torch.tensor(config["mean"]).view(1, 3, 1, 1)) / torch.tensor(
        config["std"]
    ).view(1, 3, 1, 1)
    assert torch.allclose(net(pixels), net.network(by_hand), atol=1e-4)
    assert net(pixels).shape == (2, 3)


def test_a_checkpoint_builds_the_same_network_again(tmp_path):
    net = network().eval()
    save_checkpoint(
        tmp_path / "w.safetensors",
        net,
        NetworkSpec(backbone="test_resnet"),
        SHAPE,
        {"fingerprint": "f"},
    )
    again = load_checkpoint(tmp_path / "w.safetensors", "cpu")
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.allclose(net(pixels), again(pixels), atol=1e-5)
    assert read_description(tmp_path / "w.safetensors")["fingerprint"] == "f"


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_training_may_start_from_a_local_file_whose_head_is_for_other_classes(
    tmp_path, suffix
):
    other = build_network(
        NetworkSpec(backbone="test_resnet"), classes=7, size=32, channels=3
    ).network
    path = tmp_path / f"w.{suffix}"
    if suffix == "pth":
        torch.save({"state_dict": other.state_dict()}, path)
    else:
        save_file(other.state_dict(), path)
    net = network(checkpoint=str(path)).network
    first = next(iter(other.state_dict()))
    assert torch.equal(net.state_dict()[first], other.state_dict()[first])
    assert net.state_dict()["fc.weight"].shape[0] == 3


def test_a_checkpoint_of_another_network_says_what_differs(tmp_path):
    other = build_network(NetworkSpec(backbone="test_convnext"), **SHAPE).network
    save_file(other.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(
        RequestError, match=r"is of another network: it lacks .* tensors fit"
    ):
        network(checkpoint=str(tmp_path / "w.safetensors"))


class Malicious:
    def __reduce__(self):
        return (open, ("/tmp/ens-was-here", "w"))


def test_a_malicious_checkpoint_is_refused_and_never_run(tmp_path):
    torch.save({"state_dict": Malicious()}, tmp_path / "w.pth")
    with pytest.raises(
        DataError, match="holds more than weights and was not loaded, for it could run code"
    ):
        network(checkpoint=str(tmp_path / "w.pth"))
    (tmp_path / "p.pth").write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(DataError, match=r"p\.pth"):
        network(checkpoint=str(tmp_path / "p.pth"))


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_corrupt_checkpoint_is_called_corrupt(tmp_path, suffix):
    path = tmp_path / f"w.{suffix}"
    torch.save(network().network.state_dict(), tmp_path / "whole.pth")
    path.write_bytes((tmp_path / "whole.pth").read_bytes()[:5000])
    with pytest.raises(DataError, match="corrupt"):
        network(checkpoint=str(path))


def test_weights_in_the_store_that_are_cut_short_are_named(tmp_path):
    path = tmp_path / "fold0.safetensors"
    save_checkpoint(path, network(), NetworkSpec(backbone="test_resnet"), SHAPE, {})
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(StoreError, match=r"fold0\.safetensors is not a whole checkpoint"):
        load_checkpoint(path, "cpu")


def test_unknown_backbones_name_the_nearest_and_wrong_arguments_are_said():
    with pytest.raises(UnknownNameError, match="did you mean 'resnet18'"):
        check_backbone("resnet19")
    with pytest.raises(RequestError, match="does not take these arguments"):
        network(model_args={"nonsense": 1})
    with pytest.raises(RequestError, match="there is no module 'nowhere'"):
        build_network(NetworkSpec(backbone="nowhere:net"), **SHAPE)
    with pytest.raises(RequestError, match="does not take 8 px"):
        check_network(NetworkSpec(backbone="convnext_atto"), size=8, channels=3)


def test_pretrained_weights_that_cannot_be_had_say_how_to_name_a_file(monkeypatch):
    import timm

    from ensembler.errors import TrainingError

    def offline(*arguments, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(
        TrainingError, match=r"no route to host.*checkpoint: FILE and pretrained: false"
    ):
        network(pretrained=True)


def test_a_device_that_is_not_there_is_refused():
    assert pick_device("cpu").type == "cpu"
    with pytest.raises(RequestError, match="expected auto, cpu, cuda"):
        pick_device("gpu7x")
    if not torch.cuda.is_available():
        with pytest.raises(RequestError, match="no CUDA device here"):
            pick_device("cuda")

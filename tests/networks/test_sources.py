"""Backbones of hubs and folders, and weights in local files: as timm loads its own, and the hub never needed again."""

import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load, save, save_file

from ensembler.errors import DataError, RequestError, StoreError, TrainingError
from ensembler.networks import checkpoint as checkpoints
from ensembler.networks.build import build_network, check_network
from ensembler.networks.checkpoint import load_checkpoint, read_description, save_checkpoint
from ensembler.networks.spec import NetworkSpec

IMAGES = torch.randint(
    0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
SHAPE = {"classes": 3, "size": 32, "channels": 3}


def folder_of(
    path, backbone="test_resnet", classes=7, model_args=None, mean=(0.1, 0.2, 0.3)
):
    """A folder as timm saves networks in: config.json and model.safetensors."""
    network = timm.create_model(backbone, num_classes=classes, **(model_args or {}))
    config = {**network.pretrained_cfg, "mean": list(mean), "num_classes": classes}
    path.mkdir(parents=True)
    description = {
        "architecture": backbone,
        "num_classes": classes,
        "pretrained_cfg": config,
    }
    if model_args:
        description["model_args"] = model_args
    (path / "config.json").write_text(json.dumps(description))
    save_file(network.state_dict(), path / "model.safetensors")
    return network


@pytest.fixture
def offline(monkeypatch):
    """No name is looked up and no hub is asked: the network is never touched."""
    import socket

    def refuse(*arguments, **options):
        raise OSError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def hub(tmp_path, monkeypatch, offline):
    """A hub with one repository, as timm's functions that ask it see it; `hub.asked` counts."""
    from timm.models import _factory, _hub

    source = folder_of(tmp_path / "repository", model_args={"global_pool": "avgmax"})
    asked = []

    def download(model_id, filename, *arguments, **options):
        asked.append((model_id, filename))
        return str(tmp_path / "repository" / filename)

    def described(model_id, cache_dir=None):
        content = json.loads(Path(download(model_id, "config.json")).read_text())
        return _hub._parse_model_cfg(content, {"hf_hub_id": model_id, "source": "hf-hub"})

    monkeypatch.setattr(timm.models, "load_model_config_from_hf", described)
    monkeypatch.setattr(_factory, "load_model_config_from_hf", described)
    monkeypatch.setattr(
        _hub, "hf_hub_download", lambda repo_id, **_: download(repo_id, "model.safetensors")
    )
    source.asked = asked
    return source


def saved(tmp_path, spec, network, shape=SHAPE):
    path = tmp_path / "fold0.safetensors"
    save_checkpoint(path, network, spec, shape, {})
    return path


def test_a_network_of_a_hub_starts_from_its_weights_and_predicts_without_the_hub(
    tmp_path, hub
):
    spec = NetworkSpec(backbone="hf-hub:someone/net", pretrained=True)
    network = build_network(spec, **SHAPE).eval()
    own, theirs = network.network.state_dict(), hub.state_dict()
    assert all(
        torch.equal(own[name], theirs[name]) for name in own if not name.startswith("fc.")
    )
    assert network.mean.flatten().tolist() == pytest.approx([25.5, 51.0, 76.5])
    path = saved(tmp_path, spec, network)
    hub.asked.clear()
    again = load_checkpoint(path, "cpu")
    assert hub.asked == []
    assert read_description(path)["network"]["backbone"] == "test_resnet"
    assert torch.equal(again(IMAGES), network.to(memory_format=torch.channels_last)(IMAGES))


def test_checking_a_recipe_asks_no_hub(hub):
    check_network(
        NetworkSpec(backbone="hf-hub:someone/net", pretrained=True), size=32, channels=3
    )
    assert hub.asked == []


def test_a_description_that_was_downloaded_before_is_checked(tmp_path, hub, monkeypatch):
    import huggingface_hub

    kept = tmp_path / "kept"
    folder_of(kept, "test_vit")
    monkeypatch.setattr(
        huggingface_hub,
        "try_to_load_from_cache",
        lambda *_, **__: str(kept / "config.json"),
    )
    with pytest.raises(RequestError, match="does not take 33 px"):
        check_network(NetworkSpec(backbone="hf-hub:someone/net"), size=33, channels=3)


@pytest.mark.parametrize(
    "reason",
    [OSError("no route to host"), RuntimeError("pretrained weights: offline mode")],
)
def test_a_hub_that_cannot_be_reached_says_how_to_name_a_folder(
    monkeypatch, offline, reason
):
    def unreachable(*arguments, **options):
        raise reason

    monkeypatch.setattr(timm.models, "load_model_config_from_hf", unreachable)
    with pytest.raises(
        TrainingError, match=r"cannot be had from the hub \(.*backbone: local-dir:FOLDER"
    ):
        build_network(NetworkSpec(backbone="hf-hub:someone/net"), **SHAPE)


def test_the_real_hub_client_without_a_network_is_one_clear_line(
    tmp_path, offline, monkeypatch
):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(
        TrainingError, match=r"'hf-hub:someone/net' cannot be had from the hub \("
    ):
        build_network(NetworkSpec(backbone="hf-hub:someone/net"), **SHAPE)


def test_a_folder_of_timm_is_used_and_not_needed_for_predicting(tmp_path, offline):
    theirs = folder_of(tmp_path / "net").state_dict()
    spec = NetworkSpec(backbone=f"local-dir:{tmp_path / 'net'}", pretrained=True)
    check_network(spec, size=32, channels=3)
    network = build_network(spec, **SHAPE).eval()
    own = network.network.state_dict()
    assert all(
        torch.equal(own[name], theirs[name]) for name in own if not name.startswith("fc.")
    )
    path = saved(tmp_path, spec, network)
    (tmp_path / "net").rename(tmp_path / "gone")
    assert torch.equal(
        load_checkpoint(path, "cpu")(IMAGES),
        network.to(memory_format=torch.channels_last)(IMAGES),
    )


def test_a_network_does_not_keep_the_weights_it_started_from(tmp_path):
    folder_of(tmp_path / "net")
    network = build_network(
        NetworkSpec(backbone=f"local-dir:{tmp_path / 'net'}", pretrained=True), **SHAPE
    ).network
    assert not any(
        config.get("state_dict") for config in (network.pretrained_cfg, network.default_cfg)
    )


def test_a_folder_that_is_none_of_timm_says_what_is_expected(tmp_path):
    with pytest.raises(DataError, match="expected a folder as timm saves networks"):
        check_network(NetworkSpec(backbone=f"local-dir:{tmp_path}"), size=32, channels=3)
    (tmp_path / "config.json").write_text('{"architecture": "test_resnet"}')
    check_network(NetworkSpec(backbone=f"local-dir:{tmp_path}"), size=32, channels=3)
    with pytest.raises(DataError, match="holds no weights"):
        build_network(
            NetworkSpec(backbone=f"local-dir:{tmp_path}", pretrained=True), **SHAPE
        )
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(DataError, match="is not a description of a network by timm"):
        check_network(NetworkSpec(backbone=f"local-dir:{tmp_path}"), size=32, channels=3)


def test_a_name_of_a_hub_without_its_scheme_says_both_ways():
    with pytest.raises(
        RequestError, match=r"write resnet18\.a1_in1k .*hf-hub:timm/resnet18\.a1_in1k"
    ):
        check_network(NetworkSpec(backbone="timm/resnet18.a1_in1k"), size=64, channels=3)


def start_file(tmp_path, backbone, suffix="safetensors", **options):
    network = timm.create_model(backbone, **options)
    path = tmp_path / f"start.{suffix}"
    if suffix == "safetensors":
        save_file(
            {name: value.clone() for name, value in network.state_dict().items()}, path
        )
    else:
        torch.save({"state_dict": network.state_dict()}, path)
    return path, network


@pytest.mark.parametrize(
    ("backbone", "made_for", "size", "channels", "changed"),
    [
        ("vit_tiny_patch16_224", {"img_size": 160, "depth": 1}, 96, 3, "pos_embed"),
        (
            "beit_base_patch16_224",
            {"img_size": 64, "depth": 1, "embed_dim": 48, "num_heads": 3},
            32,
            3,
            "relative",
        ),
        ("test_resnet", {}, 32, 1, "conv1"),
        ("test_convnext", {}, 64, 1, "stem"),
        ("test_resnet", {"in_chans": 1}, 32, 3, "conv1"),
    ],
)
@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_weights_for_another_size_or_number_of_channels_are_adapted(
    tmp_path, backbone, made_for, size, channels, changed, suffix
):
    path, theirs = start_file(tmp_path, backbone, suffix, num_classes=9, **made_for)
    arguments = {
        key: value for key, value in made_for.items() if key not in ("img_size", "in_chans")
    }
    spec = NetworkSpec(backbone=backbone, checkpoint=str(path), model_args=arguments)
    network = build_network(spec, classes=3, size=size, channels=channels).network
    own, start = network.state_dict(), theirs.state_dict()
    same = [name for name in own if name in start and own[name].shape == start[name].shape]
    assert all(
        torch.equal(own[name], start[name])
        for name in same
        if "head" not in name and "fc." not in name
    )
    others = [name for name in own if name not in same]
    assert all(changed in name or "head" in name or "fc." in name for name in others)
    assert any(changed in name for name in others)
    images = torch.zeros(1, channels, size, size)
    assert network.eval()(images).shape == (1, 3)


def test_a_stem_of_one_channel_is_the_sum_of_three(tmp_path):
    path, theirs = start_file(tmp_path, "test_resnet", num_classes=3)
    network = build_network(
        NetworkSpec(backbone="test_resnet", checkpoint=str(path)),
        classes=3,
        size=32,
        channels=1,
    )
    grey = network.network.state_dict()[
        "conv1.0.weight" if "conv1.0.weight" in theirs.state_dict() else "conv1.weight"
    ]
    colour = theirs.state_dict()[
        "conv1.0.weight" if "conv1.0.weight" in theirs.state_dict() else "conv1.weight"
    ]
    torch.testing.assert_close(grey, colour.sum(dim=1, keepdim=True))
    assert torch.equal(
        network.network.state_dict()["fc.weight"], theirs.state_dict()["fc.weight"]
    )


@pytest.mark.parametrize("classes", [3, 7])
@pytest.mark.parametrize(
    ("backbone", "other"), [("test_resnet", "test_vit"), ("test_vit", "test_resnet")]
)
def test_weights_of_another_network_are_refused_whatever_they_were_trained_for(
    tmp_path, backbone, other, classes
):
    path, _ = start_file(tmp_path, other, num_classes=classes)
    with pytest.raises(
        RequestError, match=r"is of another network: .*name the backbone it was made with"
    ):
        build_network(
            NetworkSpec(backbone=backbone, checkpoint=str(path)),
            classes=3,
            size=160,
            channels=3,
        )


def test_weights_of_data_parallel_training_and_of_a_compiled_network_are_taken(tmp_path):
    theirs = timm.create_model("test_resnet", num_classes=4)
    for wrapper in ("module.", "_orig_mod."):
        save_file(
            {wrapper + name: value for name, value in theirs.state_dict().items()},
            tmp_path / "w.safetensors",
        )
        spec = NetworkSpec(
            backbone="test_resnet", checkpoint=str(tmp_path / "w.safetensors")
        )
        own = build_network(spec, **SHAPE).network.state_dict()
        first = next(iter(own))
        assert torch.equal(own[first], theirs.state_dict()[first])


def test_a_file_to_start_from_is_never_run(tmp_path):
    class Malicious:
        def __reduce__(self):
            return (open, (str(tmp_path / "mark"), "w"))

    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "config.json").write_text('{"architecture": "test_resnet"}')
    torch.save({"state_dict": Malicious()}, tmp_path / "net" / "pytorch_model.bin")
    with pytest.raises(DataError, match="holds more than weights"):
        build_network(
            NetworkSpec(backbone=f"local-dir:{tmp_path / 'net'}", pretrained=True), **SHAPE
        )
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("backbone", "size"),
    [("nest_tiny", 128), ("pit_ti_224", 128), ("levit_128s", 128), ("hiera_tiny_224", 128)],
)
def test_sizes_are_tried_and_not_listed_by_hand(backbone, size):
    check_network(NetworkSpec(backbone=backbone), size=size, channels=3)


@pytest.mark.parametrize(
    ("backbone", "size"),
    [
        ("test_resnet", 32),
        ("test_vit", 96),
        ("test_convnext", 64),
        ("swin_tiny_patch4_window7_224", 64),
    ],
)
def test_a_checkpoint_is_read_without_random_weights_and_predicts_the_same_bits(
    tmp_path, backbone, size, monkeypatch
):
    shape = {**SHAPE, "size": size}
    spec = NetworkSpec(backbone=backbone, drop_path_rate=0.1)
    path = saved(tmp_path, spec, build_network(spec, **shape), shape)
    images = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    quick = load_checkpoint(path, "cpu")(images)
    monkeypatch.setattr(checkpoints, "_assembled", lambda *_: None)
    assert torch.equal(load_checkpoint(path, "cpu")(images), quick)


def test_a_checkpoint_of_an_older_version_is_read(tmp_path):
    spec = NetworkSpec(backbone="test_vit", model_args={"dynamic_img_size": True})
    shape = {**SHAPE, "size": 96}
    # Older versions named the size to every network of this family.
    sized = spec.model_copy(update={"model_args": {**spec.model_args, "img_size": 96}})
    network = build_network(sized, **shape).eval()
    path = saved(tmp_path, sized, network, shape)
    weights = load(path.read_bytes())
    header = read_description(path)
    del header["pixels"], header["network"]["model_args"]["img_size"]
    path.write_bytes(save(weights, metadata={"ensembler": json.dumps(header)}))
    images = torch.randint(0, 256, (2, 3, 96, 96), dtype=torch.uint8)
    assert torch.equal(
        load_checkpoint(path, "cpu")(images),
        network.to(memory_format=torch.channels_last)(images),
    )
    header["shape"]["size"] = 64
    path.write_bytes(save(weights, metadata={"ensembler": json.dumps(header)}))
    with pytest.raises(StoreError, match="does not hold the network it describes"):
        load_checkpoint(path, "cpu")


def factory_of_two(num_classes, in_chans):
    return torch.nn.Linear(2, 2)


def factory_that_drops(num_classes, in_chans, drop_rate=0.0):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(drop_rate))


@pytest.mark.parametrize(
    "option", [{"pretrained": True}, {"drop_rate": 0.1}, {"drop_path_rate": 0.1}]
)
def test_a_network_of_ones_own_refuses_options_that_it_does_not_take(option):
    spec = NetworkSpec(backbone=f"{__name__}:factory_of_two", **option)
    with pytest.raises(
        RequestError,
        match=f"does not take {next(iter(option))}; its factory takes num_classes",
    ):
        check_network(spec, size=32, channels=3)


def test_a_network_of_ones_own_gets_the_options_that_it_takes():
    spec = NetworkSpec(backbone=f"{__name__}:factory_that_drops", drop_rate=0.3)
    check_network(spec, size=32, channels=3)
    assert build_network(spec, **SHAPE).network[1].p == 0.3

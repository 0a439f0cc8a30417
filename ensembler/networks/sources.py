"""Where a backbone comes from: timm's catalogue, a hub, a folder, or a module of the user's own."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ensembler.errors import DataError
from ensembler.files import sha256_by_stat
from ensembler.own_code import digest_of, is_own

HUB, FOLDER = "hf-hub", "local-dir"
# of a folder, in the order of preference
_WEIGHTS = ("*.safetensors", "*.pth", "*.pth.tar", "*.bin")


@dataclass(frozen=True)
class Architecture:
    """A network by timm's name for it, with the arguments that its description adds."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)


def source_of_backbone(backbone: str) -> tuple[str, str]:
    """`hf-hub` or `local-dir` and what follows it, or "" and the whole name."""
    source, separator, name = backbone.partition(":")
    source = source.lower().replace("_", "-")
    return (source, name) if separator and source in (HUB, FOLDER) else ("", backbone)


def is_own_backbone(backbone: str) -> bool:
    """Whether a backbone is `module:factory` of the user's own."""
    source, name = source_of_backbone(backbone)
    return not source and is_own(name)


def contents_of_backbone(backbone: str, *, weights: bool) -> dict[str, str]:
    """Digests of the files behind a backbone: the module of one's own, or the files of a folder.

    {} for the others. Weights in the folder count when they are what is started from.
    """
    source, name = source_of_backbone(backbone)
    if source == FOLDER:
        kinds = ("config.json", *_WEIGHTS) if weights else ("config.json",)
        files = sorted(
            path for kind in kinds for path in Path(name).glob(kind) if path.is_file()
        )
        return {f"{FOLDER}/{path.name}": sha256_by_stat(path) for path in files}
    digest = digest_of(backbone) if is_own(backbone) and not source else None
    return {} if digest is None else {backbone: digest}


def architecture_of(backbone: str) -> Architecture:
    """What a backbone of timm, a hub or a folder is called in timm's catalogue.

    A hub is asked for its description. Raises DataError for a folder that is none of timm's, and
    whatever the hub raises.
    """
    source, name = source_of_backbone(backbone)
    if source == FOLDER:
        return _read_description(Path(name) / "config.json", backbone)
    if source == HUB:
        from timm.models import load_model_config_from_hf

        _, architecture, arguments = load_model_config_from_hf(name)
        return Architecture(architecture, dict(arguments or {}))
    return Architecture(backbone)


def known_architecture(backbone: str) -> Architecture | None:
    """The same without asking a hub: None when its description has not been downloaded before."""
    source, name = source_of_backbone(backbone)
    if source != HUB:
        return architecture_of(backbone)
    from huggingface_hub import try_to_load_from_cache

    repository, _, revision = name.partition("@")
    cached = try_to_load_from_cache(repository, "config.json", revision=revision or None)
    return _read_description(Path(cached), backbone) if isinstance(cached, str) else None


def _read_description(path: Path, backbone: str) -> Architecture:
    """What timm's `config.json` says a network is."""
    try:
        content = json.loads(path.read_text())
        name, arguments = content["architecture"], content.get("model_args") or {}
    except FileNotFoundError as error:
        raise DataError(
            f"backbone {backbone!r}: there is no {path}; expected a folder as timm saves "
            "networks (config.json and model.safetensors). Weights alone: checkpoint: "
            "FILE, with timm's name as backbone"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"backbone {backbone!r}: {path} is not a description of a network by timm ({error})"
        ) from error
    return Architecture(str(name), dict(arguments))


def weights_in_folder(folder: Path) -> Path:
    """The file of weights in a folder as timm saves networks; DataError when there is none."""
    for kind in ("model.safetensors", *_WEIGHTS):
        found = sorted(path for path in folder.glob(kind) if path.is_file())
        if found:
            return found[0]
    raise DataError(
        f"{folder} holds no weights ({', '.join(_WEIGHTS)}); pretrained: false starts without"
    )

"""Where weights came from before they were trained on, and under which licence they are."""

from __future__ import annotations

from pathlib import Path

from ensembler.bundle.records import Provenance
from ensembler.files import sha256_of
from ensembler.networks.sources import FOLDER, HUB, source_of_backbone
from ensembler.networks.spec import NetworkSpec


def provenance_of(spec: NetworkSpec) -> Provenance:
    """What a member's networks started from, as far as recipe and timm say it.

    Nothing is downloaded. The licence is that of timm's weights, None where it is not known.
    """
    source, place = source_of_backbone(spec.backbone)
    if spec.checkpoint is not None:
        path = Path(spec.checkpoint)
        digest = sha256_of(path) if path.is_file() else None
        return Provenance(
            backbone=spec.backbone, start="file", source=path.name, sha256=digest
        )
    if source == FOLDER:
        # where the folder is is nobody else's business
        name = Path(place).name
        start = "file" if spec.pretrained else "random"
        return Provenance(backbone=f"{FOLDER}:{name}", start=start, source=name)
    if not spec.pretrained:
        return Provenance(backbone=spec.backbone)
    if source == HUB:
        return Provenance(backbone=spec.backbone, start="hub", source=place)
    return _of_timm(spec.backbone)


def _of_timm(backbone: str) -> Provenance:
    import timm

    config = timm.get_pretrained_cfg(backbone)
    hub, url = getattr(config, "hf_hub_id", None), getattr(config, "url", None)
    return Provenance(
        backbone=backbone,
        start="pretrained",
        source=hub or url or None,
        licence=getattr(config, "license", None),
    )

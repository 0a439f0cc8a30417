"""method: probe: a head on frozen features of a network that is not trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ensembler.data.size import SizeGiven
from ensembler.data.spec import OwnInputSpec
from ensembler.inference.spec import ViewSpec
from ensembler.networks.sources import is_own_backbone
from ensembler.networks.spec import NetworkSpec
from ensembler.training.specs.base import (
    OWN_INPUT,
    PREPARE,
    TrainingSpec,
    code_of_steps,
    raise_first,
)
from ensembler.training.specs.fitted import FittedSpec


class FeaturesSpec(BaseModel):
    """Where features come from: a frozen network, or a file that another tool has made."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    backbone: str | None = Field(
        None, description="A backbone as of any member; its head is left out."
    )
    pretrained: bool = Field(
        False,
        description="Pretrained weights: downloaded by timm, or those in the folder. Without them "
        "and without checkpoint the weights are random.",
    )
    checkpoint: str | None = Field(
        None, description="A local file of weights, as of any member."
    )
    model_args: dict[str, Any] = Field(
        default_factory=dict, description="Further arguments of timm.create_model."
    )
    pool: str | None = Field(
        None,
        description="How positions become one feature, by timm's name: avg, max, avgmax, "
        "catavgmax, token (default: as the backbone does).",
    )
    size: SizeGiven | None = Field(
        None,
        description="Input size, one number or [height, width] (default: the recipe's).",
    )
    views: tuple[ViewSpec, ...] = Field(
        ("identity",),
        min_length=1,
        description="Views of the train images that heads are fitted on; what they predict are the "
        "recipe's views.",
    )
    amp: Literal["auto", "off", "bf16", "fp16"] = Field(
        "auto", description="Mixed precision."
    )
    batch_size: int = Field(64, ge=1, description="Images at once.")
    file: str | None = Field(
        None,
        description="Instead of a network: a .npy of features [images, features] by another tool.",
    )
    ids: str | None = Field(
        None,
        description="The sample ids of the rows of file: a text file of one a line, or a CSV or "
        "Parquet with a column id.",
    )

    @model_validator(mode="after")
    def _check(self) -> FeaturesSpec:
        raise_first(self._problems())
        return self

    def _problems(self) -> Iterator[str]:
        if (self.backbone is None) == (self.file is None):
            yield "features come from a backbone or from a file; name one of them"
        if self.pretrained and self.checkpoint is not None:
            yield "pretrained: true and checkpoint both say where the weights come from; keep one"
        if (self.file is None) != (self.ids is None):
            yield "file and ids go together: features, and the sample id of each row"
        if self.file is None:
            return
        fields = type(self).model_fields
        for name in sorted(fields.keys() - {"backbone", "file", "ids"}):
            usual = fields[name].get_default(call_default_factory=True)
            if getattr(self, name) != usual:
                yield f"{name} is of a network, and features are read from a file"

    @property
    def network(self) -> NetworkSpec:
        """The network whose features they are."""
        pool = {} if self.pool is None else {"global_pool": self.pool}
        return NetworkSpec(
            backbone=self.backbone or "",
            pretrained=self.pretrained,
            checkpoint=self.checkpoint,
            model_args={**self.model_args, **pool},
        )

    @property
    def is_random(self) -> bool:
        """Whether the network's weights are drawn."""
        return self.backbone is not None and not (
            self.pretrained or self.checkpoint is not None
        )


class ProbeSpec(FittedSpec):
    """A head for each fold on frozen features, which are computed once for all members."""

    method: Literal["probe"] = Field(description="probe fits heads on frozen features.")
    features: FeaturesSpec = Field(description="The features: see below.")
    prepare: tuple[str | dict[str, Any], ...] | None = Field(None, description=PREPARE)
    input: OwnInputSpec | None = Field(None, description=OWN_INPUT)

    @property
    def sees_images(self) -> bool:
        """Whether a network looks at the images."""
        return self.features.file is None

    @property
    def code(self) -> dict[str, str]:
        """Every `module:name` of the user's own, and what it is used as."""
        backbone = self.features.backbone or ""
        own = {backbone: "backbone"} if is_own_backbone(backbone) else {}
        return {**super().code, **own, **code_of_steps(self.prepare, self.input)}

    @property
    def base(self) -> TrainingSpec:
        """What its network is like, where it has one."""
        network, features = self.features.network, self.features
        return TrainingSpec.model_validate(
            {
                **network.model_dump(),
                **super().base.model_dump(
                    include={"target", "class_weights", "priority", "seed", "seeds"}
                ),
                "train_bins": self.train_bins,
                "prepare": self.prepare,
                "input": self.input,
                "size": features.size,
                "amp": features.amp,
                "batch_size": features.batch_size,
            }
        )

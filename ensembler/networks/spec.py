"""What a recipe may say about a member's network."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class NetworkSpec(BaseModel):
    """A network: a timm backbone by name, of a hub or a folder, or the user's `module:factory`."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    backbone: str = Field(
        description="A timm backbone by name, hf-hub:OWNER/NAME (a hub), local-dir:FOLDER (as timm "
        "saves networks), or "
        "module:factory for an nn.Module of your own."
    )
    pretrained: bool = Field(
        False,
        description="Start from pretrained weights: downloaded by timm, or those in the folder.",
    )
    checkpoint: str | None = Field(
        None,
        description="Start from this local file of weights (.safetensors, or .pth read as weights "
        "only); timm "
        "adapts it to other sizes, channels and classes.",
    )
    model_args: dict[str, Any] = Field(
        default_factory=dict, description="Further arguments of timm.create_model."
    )
    drop_rate: float = Field(0.0, ge=0, lt=1, description="Dropout before the head.")
    drop_path_rate: float = Field(0.0, ge=0, lt=1, description="Stochastic depth.")

"""What a recipe may say about views and about what computes predictions."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ensembler.inference.engines.registry import check_engine


class CustomView(BaseModel):
    """A view of one's own: an albumentations transform with fixed parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9_.+-]+$", description="What the view is called.")
    transform: dict[str, dict[str, Any]] = Field(
        min_length=1,
        max_length=1,
        description="One albumentations transform: {Name: {arguments}}; it is always applied.",
    )


ViewSpec = str | CustomView


class InferenceSpec(BaseModel):
    """How predictions are computed; it changes how long they take, not which members there are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: str = Field(
        "default",
        description="eager, graph (CUDA), traced, compile, openvino or onnx; default depends on "
        "hardware and recipe alone, auto measures once and keeps the choice in recipe.lock.json.",
    )

    @field_validator("engine")
    @classmethod
    def _check_engine(cls, name: str) -> str:
        return check_engine(name)

"""What a recipe may say about views."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


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

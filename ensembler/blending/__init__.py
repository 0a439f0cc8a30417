"""Blending: from the predictions of several members to one prediction. numpy and scipy only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ensembler.blending.make import make_blend as make_blend
    from ensembler.blending.pool import Pool as Pool
    from ensembler.blending.registry import BLEND_METHODS as BLEND_METHODS
    from ensembler.blending.registry import create_blend as create_blend
    from ensembler.blending.result import BlendResult as BlendResult

_PLACES = {
    "BLEND_METHODS": "registry",
    "BlendResult": "make",
    "Pool": "pool",
    "create_blend": "registry",
    "make_blend": "make",
}
__all__ = ["BLEND_METHODS", "BlendResult", "Pool", "create_blend", "make_blend"]


def __getattr__(name: str) -> Any:
    # `ensembler.blending.spec` is read with every recipe: it must not bring numpy along.
    if name in _PLACES:
        from importlib import import_module

        return getattr(import_module(f"ensembler.blending.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

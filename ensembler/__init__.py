"""Train K-fold members, keep every prediction, and submit the best blend, with an honest score.

What is listed in `__all__` is stable; a name is loaded when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ensembler.blending import Pool as Pool
    from ensembler.blending import create_blend as create_blend
    from ensembler.blending import make_blend as make_blend
    from ensembler.blending.spec import BlendSpec as BlendSpec
    from ensembler.bundle.predictor import Predictor as Predictor
    from ensembler.errors import EnsemblerError as EnsemblerError
    from ensembler.recipe import Recipe as Recipe
    from ensembler.run import Run as Run

__version__ = "0.1.0"
__all__ = [
    "BlendSpec",
    "EnsemblerError",
    "Pool",
    "Predictor",
    "Recipe",
    "Run",
    "__version__",
    "create_blend",
    "make_blend",
]
# `import ensembler` must cost nothing: most of these bring numpy and pandas.
_PLACES = {
    "BlendSpec": "ensembler.blending.spec",
    "EnsemblerError": "ensembler.errors",
    "Pool": "ensembler.blending",
    "Predictor": "ensembler.bundle.predictor",
    "Recipe": "ensembler.recipe",
    "Run": "ensembler.run",
    "create_blend": "ensembler.blending",
    "make_blend": "ensembler.blending",
}


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

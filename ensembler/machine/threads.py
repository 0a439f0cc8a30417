"""One BLAS thread inside the solvers: two never helped, and fight when the other core is busy."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any


def one_thread() -> AbstractContextManager[Any]:
    """Limit BLAS to one thread while the block runs."""
    libraries = _libraries(len(sys.modules))
    limit: AbstractContextManager[Any] = libraries.limit(limits=1, user_api="blas")
    return limit


@lru_cache(maxsize=1)
def _libraries(n_modules: int) -> Any:  # noqa: ARG001 what was found is known by it
    """The libraries with threads: looked for again once another module was imported.

    Looking takes longer than many a fit inside the block.
    """
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()

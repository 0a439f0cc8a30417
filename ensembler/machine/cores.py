"""How many cores this process may use."""

from __future__ import annotations


def available_cores() -> int:
    """Cores that the process may run on, within the limits of its affinity and of its container.

    `LOKY_MAX_CPU_COUNT` lowers it.
    """
    # joblib comes with scikit-learn, and knows affinity and the quotas of both versions of control
    # groups.
    from joblib import cpu_count  # type: ignore[import-untyped]

    return int(cpu_count())

"""Pools of invented members."""

from pathlib import Path


def pool_files(pool: Path) -> dict[str, bytes]:
    """Everything that lies in a pool, by path."""
    files = [path for path in pool.rglob("*") if path.is_file()]
    return {str(path.relative_to(pool)): path.read_bytes() for path in sorted(files)}

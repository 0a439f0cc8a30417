"""Who shares: as told, else as git knows, else the login."""

from __future__ import annotations

import getpass
import subprocess

from ensembler.errors import RequestError
from ensembler.plain_text import check_plain_text
from ensembler.sharing.records import MOST_AUTHOR


def author_named(given: str | None) -> str:
    """The author of what is shared: `given`, else git's `user.name`, else the login."""
    author = (given if given is not None else _by_git() or _login()).strip()
    check_plain_text([author], "author", "--author")
    if not author or len(author) > MOST_AUTHOR or "\n" in author:
        raise RequestError(
            f"--author {author[:MOST_AUTHOR]!r} should be a name of at most {MOST_AUTHOR} "
            "characters"
        )
    return author


def _by_git() -> str | None:
    try:
        done = subprocess.run(
            ["git", "config", "--get", "user.name"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None  # no git here, which is no reason not to share
    return done.stdout.strip() or None


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without a name, as in some containers
        return "unknown"


def in_a_name(author: str) -> str:
    """An author as a part of a member's name: letters, digits and - _ . alone."""
    kept = "".join(c if c.isalnum() or c in "-_." else "-" for c in author)
    return kept.strip("-.")[:40] or "unknown"

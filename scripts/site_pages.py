"""What mkdocs asks while it builds: README and CONTRIBUTING are pages of the site, too."""

from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES = {"index.md": "README.md", "contributing.md": "CONTRIBUTING.md"}


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The text of a page; of the two from the root, with links as they are inside docs/."""
    source = PAGES.get(page.file.src_uri)
    if source is None:
        return markdown
    text = (ROOT / source).read_text(encoding="utf-8")
    for before in ("](", 'src="', 'srcset="'):
        text = text.replace(f"{before}docs/", before)
    return text.replace("](CONTRIBUTING.md", "](contributing.md")

"""`ens report RUN --watch`: the page of a run that goes on, served to this machine alone.

It is read-only, listens on the loopback address, and answers under a random path only, so that no
other page in the browser can ask for it.
"""

from __future__ import annotations

import hmac
import secrets
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from ensembler.predictions.store import RunStore

HOST = "127.0.0.1"
EVERY = 15  # seconds between two looks at the run


class Watch:
    """A server of one page. Use it as a context; `url` is where the page is."""

    def __init__(self, page: Path, port: int = 0) -> None:
        self.token = secrets.token_urlsafe(24)
        self._server = ThreadingHTTPServer((HOST, port), _handler(page, self.token))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self._server.server_address[1]}/{self.token}/"

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(page: Path, token: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Answers GET and HEAD of the one path."""

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def _answer(self, *, with_body: bool) -> None:
            is_here = self.headers.get("Host", "").partition(":")[0] in (HOST, "localhost")
            asked = self.path.strip("/").encode("utf-8", "replace")
            if not is_here or not hmac.compare_digest(asked, token.encode()):
                self.send_error(404)
                return
            try:
                content = page.read_bytes()
            except FileNotFoundError:
                self.send_error(503, "not written yet")
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("Referrer-Policy", "no-referrer")
            self.end_headers()
            if with_body:
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: the terminal is for the run."""

    return Handler


def state_of(store: RunStore) -> tuple[tuple[str, int], ...]:
    """What a page depends on, cheaply: the records and finished folds of a run, and their times."""
    names = (
        "members/*/*.json",
        "members/*/fold*.logits.safetensors",
        "blends/*/blend.json",
    )
    found = [store.folder / "submission.json", store.folder / "audit.json"]
    for name in names:
        found += store.folder.glob(name)
    times = []
    for path in sorted(found):
        try:
            times.append((str(path), path.stat().st_mtime_ns))
        except FileNotFoundError:
            continue  # replaced just now
    return tuple(times)


def watch(
    store: RunStore,
    write: Callable[[], object],
    wait: Callable[[float], bool],
) -> None:
    """Write the page again whenever something new is finished, until `wait` says to end."""
    seen = None
    while True:
        now = state_of(store)
        if now != seen:
            write()
            seen = now
        if wait(EVERY):
            return

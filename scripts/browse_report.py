"""Open a report in headless Chromium, as its readers do, and say what does not work there.

    python scripts/browse_report.py [PAGE] [--picture OUT.png]

Without a page, one of an invented run with hostile names is written. A small script is put at the end of a copy of
the page (and allowed by the copy's policy): it sorts a table by a click on its column, filters, points at the
matrix, tries to fetch something, and writes what it saw into the page, which Chromium prints. Looked for besides:
messages of the console, and text that runs out of the page at the width of a phone. Where there is no Chromium that
is said, and the exit code is 0. `--picture` makes a screenshot.
"""

import argparse
import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PROBE = """
(async () => {
  const seen = {}, problems = [];
  addEventListener("error", (event) => problems.push(String(event.message)));
  const table = [...document.querySelectorAll("table")].find((t) => t.tBodies[0].rows.length > 2);
  const column = [...table.tHead.rows[0].cells].findIndex((_, i) => i && /^[\\d.]+$/.test(table.tBodies[0].rows[0].cells[i].textContent.trim()));
  const figures = () => [...table.tBodies[0].rows].map((r) => parseFloat(r.cells[column].textContent)).filter((v) => !Number.isNaN(v));
  const sorted = (v, sign) => v.every((x, i) => !i || sign * (x - v[i - 1]) >= 0);
  const button = table.tHead.rows[0].cells[column].querySelector("button");
  button.click(); seen.ascending = sorted(figures(), 1);
  button.click(); seen.descending = sorted(figures(), -1);
  seen.aria = table.tHead.rows[0].cells[column].getAttribute("aria-sort");
  button.focus(); seen.keyboard = document.activeElement === button;
  const matrix = document.querySelector("svg[data-matrix]");
  if (matrix) {
    const box = matrix.getBoundingClientRect(), place = JSON.parse(matrix.dataset.matrix).place;
    const scale = box.width / matrix.viewBox.baseVal.width;
    matrix.dispatchEvent(new PointerEvent("pointermove", { bubbles: true,
      clientX: box.left + (place[0] + place[2] / 2) * scale, clientY: box.top + (place[1] + place[2] / 2) * scale }));
    seen.pointed = matrix.closest("figure").querySelector(".pointed").textContent !== "";
  }
  let refused = 0;
  addEventListener("securitypolicyviolation", () => (refused += 1));
  try { await fetch("http://127.0.0.1:9/"); } catch { refused += 1; }
  seen.fetch_refused = refused > 0;
  seen.requests = performance.getEntriesByType("resource").map((r) => r.name).filter((n) => !n.startsWith("data:") && !n.includes("127.0.0.1:9"));
  seen.too_wide = document.documentElement.scrollWidth > innerWidth + 1;
  seen.unnamed = [...document.querySelectorAll("svg[role=img],section,[tabindex]")].filter((e) => !e.getAttribute("aria-label") && !e.getAttribute("aria-labelledby")).length;
  seen.problems = problems;
  const out = document.createElement("pre"); out.id = "probe"; out.textContent = JSON.stringify(seen);
  document.body.append(out);
})();
"""
WANTED = {
    "ascending": True,
    "descending": True,
    "aria": "descending",
    "keyboard": True,
    "fetch_refused": True,
    "requests": [],
    "unnamed": 0,
    "problems": [],
    "too_wide": False,
}


def main() -> None:
    """Look at one page, wide, narrow and dark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path, nargs="?")
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print("skipped: there is no Chromium (apt-get install chromium)")
        return
    with tempfile.TemporaryDirectory() as folder:
        page = given.page or invented(Path(folder))
        if given.picture is not None:
            picture(browser, page, given.picture)
        wrong = {size: differences(browser, page, Path(folder), size) for size in SIZES}
    for size, found in wrong.items():
        print(f"{size}: {'; '.join(found) or 'as it should be'}")
    sys.exit(any(wrong.values()))


SIZES = ("1200,900", "500,900")  # Chromium has no narrower window


def invented(folder: Path) -> Path:
    """The page of a run whose class names are hostile and long."""
    from ensembler.predictions.testing import write_fake_run
    from ensembler.report.report import report_run
    from ensembler.run import Run

    classes = ("cat", "<script>document.title = 'hostile'</script>", "long-" + "x" * 195)
    members = {"a": 1.5, "b": 1.0, "c": 0.7}
    store = write_fake_run(folder / "fake", members, n_train=300, classes=classes)
    Run(store).blend("soft", submit=True)
    return report_run(store, folder).file


def differences(browser: str, page: Path, folder: Path, size: str) -> list[str]:
    """What is not as it should be at one size of the window."""
    copy = folder / f"probed-{size}.html"
    copy.write_text(with_probe(page.read_text()))
    done = call(
        browser, copy, f"--window-size={size}", "--virtual-time-budget=8000", "--dump-dom"
    )
    found = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.DOTALL)
    if found is None:
        return [f"the page's script did not run: {done.stderr[-500:]}"]
    seen = json.loads(html.unescape(found.group(1)))
    wrong = [
        f"{key} is {seen.get(key)!r}"
        for key, value in WANTED.items()
        if seen.get(key) != value
    ]
    if seen.get("pointed") is False:
        wrong.append("the matrix does not say what is pointed at")
    if "<title>hostile" in done.stdout:
        wrong.append("a class name ran as a script")
    # The one request that the probe itself tries is refused, and said.
    console = [
        line
        for line in done.stderr.splitlines()
        if "CONSOLE" in line and "127.0.0.1:9" not in line
    ]
    return wrong + console


def with_probe(text: str) -> str:
    """The page with the probe, which its policy allows by its digest."""
    digest = base64.b64encode(hashlib.sha256(PROBE.encode()).digest()).decode()
    allowed = re.sub(
        r"script-src ", f"script-src &#39;sha256-{digest}&#39; ", text, count=1
    )
    return allowed.replace("</body>", f"<script>{PROBE}</script></body>")


def picture(browser: str, page: Path, out: Path) -> None:
    """A screenshot of the top of the page."""
    call(
        browser, page, "--window-size=1100,1400", "--hide-scrollbars", f"--screenshot={out}"
    )


def call(browser: str, page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the browser on one page."""
    always = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
    command = [
        browser,
        *always,
        "--enable-logging=stderr",
        *options,
        page.resolve().as_uri(),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


if __name__ == "__main__":
    main()

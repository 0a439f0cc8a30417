import urllib.error
import urllib.request

import pytest

from ensembler.predictions.testing import write_fake_run
from ensembler.report.watch import HOST, Watch, state_of, watch


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("<p>here</p>")
    return path


def status_of(url, **options):
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, **options), timeout=5
        ) as got:
            return got.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_the_page_is_served_on_this_machine_under_a_random_path_alone(page):
    with Watch(page) as served:
        assert served.url.startswith(f"http://{HOST}:")
        with urllib.request.urlopen(served.url, timeout=5) as answer:
            assert answer.read() == b"<p>here</p>"
        root = served.url.removesuffix(f"{served.token}/")
        assert status_of(root) == 404
        assert status_of(f"{root}{served.token}/../report.html") == 404
        assert status_of(served.url, headers={"Host": "evil.example"}) == 404
        assert status_of(served.url, method="POST", data=b"x") == 501
        page.unlink()
        assert status_of(served.url) == 503
    with Watch(page) as another:
        assert another.token != served.token


def test_the_page_is_written_again_when_something_is_finished_and_only_then(tmp_path):
    store = write_fake_run(tmp_path / "fake")
    waits, written = [], []

    def wait(_seconds):
        waits.append(1)
        if len(waits) == 2:
            (store.folder / "audit.json").write_text("{}")
        return len(waits) == 4

    watch(store, lambda: written.append(len(waits)), wait)
    assert written == [0, 2]
    assert state_of(store) == state_of(store)

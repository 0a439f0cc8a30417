import os
import subprocess
import sys
from pathlib import Path

import pytest

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")


@pytest.fixture
def fake_run(tmp_path):
    from ensembler.predictions.testing import write_fake_run

    return write_fake_run(tmp_path / "artifacts" / "fake")


class Ens:
    """Runs `ens` in a process of its own, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def command(self, *arguments: object) -> list[str]:
        return [sys.executable, "-m", "ensembler", *map(str, arguments)]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "OMP_NUM_THREADS": "1", "ENS_ARTIFACTS": str(self.folder / "artifacts")}

    def __call__(self, *arguments: object, expect: int = 0, **options) -> subprocess.CompletedProcess:
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=240,
            **options,
        )
        assert done.returncode == expect, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def start(self, *arguments: object) -> subprocess.Popen:
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def ens(tmp_path):
    return Ens(tmp_path)


@pytest.fixture
def ens_here(tmp_path, monkeypatch, capsys):
    """Runs `ens` in this process, in a folder of its own: for commands that train nothing."""
    import signal

    from ensembler.cli.app import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENS_ARTIFACTS", str(tmp_path / "artifacts"))
    handler = signal.getsignal(signal.SIGTERM)

    def run(*arguments: object, expect: int = 0) -> subprocess.CompletedProcess:
        given = ["ens", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", given)
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        assert left.value.code == expect, f"exit {left.value.code}\n{out}\n{err}"
        return subprocess.CompletedProcess(given, expect, out, err)

    yield run
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of its own with 1 MB, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no small disk can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)

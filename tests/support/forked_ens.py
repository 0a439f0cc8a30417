"""`ens` in real processes that need no start: forked from a server that has imported everything.

Starting `ens run` costs some ten seconds of imports, the work in these tests one or two. A forked
process can be killed, stopped and crowded like any other.
"""

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import ensembler

OF_OTHERS = [
    "albumentations",
    "cv2",
    "PIL.Image",
    "pytest",
    "rich.progress",
    "rich.table",
    "scipy.optimize",
    "scipy.stats",
    "sklearn.model_selection",
    "timm.optim",
    "timm.scheduler",
]


def _ours() -> list[str]:
    root = Path(ensembler.__file__).parent
    files = [
        path
        for path in root.rglob("*.py")
        if path.name not in ("__main__.py", "testing.py")
    ]
    return [".".join(path.relative_to(root.parent).with_suffix("").parts) for path in files]


_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload([*OF_OTHERS, *_ours()])


class Forked:
    """One running `ens`, with the interface of subprocess.Popen as far as tests need it."""

    def __init__(
        self,
        arguments: list[str],
        folder: Path,
        environment: Mapping[str, str],
        largest_file: int | None = None,
    ) -> None:
        self.arguments = arguments
        self._said = Path(tempfile.mkdtemp(dir=folder, prefix=".said-"))
        streams = (self._said / "out", self._said / "err")
        for stream in streams:
            stream.touch()  # a process may be killed before it says anything
        given = (arguments, folder, dict(environment), streams, largest_file)
        self._process = _context.Process(target=_run, args=given)
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, sent: int) -> None:
        os.kill(self.pid, sent)

    def communicate(self, timeout: float = 240) -> tuple[str, str]:
        """Wait for the end; what it said on standard output and standard error."""
        self._process.join(timeout)
        if self.returncode is None:
            self._process.kill()
            raise subprocess.TimeoutExpired(self.arguments, timeout)
        out, err = (self._said / name for name in ("out", "err"))
        return out.read_text(), err.read_text()


class Ens:
    """Runs `ens` in a process of its own (see support/forked_ens.py), in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def command(self, *arguments: object) -> list[str]:
        """What starts `ens` from nothing, for tests of the start itself."""
        return [sys.executable, "-m", "ensembler", *map(str, arguments)]

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "ENS_ARTIFACTS": str(self.folder / "artifacts"),
        }

    def __call__(self, *arguments: object, expect: int = 0) -> subprocess.CompletedProcess:
        process = self.start(*arguments)
        out, err = process.communicate()
        assert process.returncode == expect, f"exit {process.returncode}\n{out}\n{err}"
        assert "Traceback" not in err, err
        return subprocess.CompletedProcess(process.arguments, process.returncode, out, err)

    def anew(self, *arguments: object) -> None:
        """Run `ens` in an interpreter of its own, which takes `PYTHONHASHSEED` from the environment."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def start(self, *arguments: object, largest_file: int | None = None) -> Forked:
        given = [str(argument) for argument in arguments]
        return Forked(given, self.folder, self.environment(), largest_file)


def _run(
    arguments: list[str],
    folder: Path,
    environment: Mapping[str, str],
    streams: tuple[Path, Path],
    largest_file: int | None,
) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in enumerate(streams, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    sys.argv = ["ens", *arguments]
    from ensembler.__main__ import main

    main()

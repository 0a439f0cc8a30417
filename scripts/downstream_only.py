"""Drive the commands that work on predictions in an environment without torch.

Used by scripts/check-without-torch.
"""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path


def main() -> None:
    """Make a run by hand, then list, blend, evaluate and submit it.

    Training must say what it lacks.
    """
    ens, folder = sys.argv[1], Path(sys.argv[2])
    for package in ("torch", "timm", "albumentations", "cv2"):
        assert find_spec(package) is None, f"{package} is installed: this proves nothing"
    from ensembler.predictions.testing import write_fake_run

    write_fake_run(folder / "artifacts" / "fake", {"a": 2.0, "b": 1.0}, n_train=200)

    def call(*arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [ens, *arguments], cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == expect, done.stdout + done.stderr
        return done

    assert json.loads(call("ls", "fake", "--json").stdout)["members"][0]["name"] == "a"
    for method in ("soft", "greedy", "auto"):
        assert json.loads(call("blend", "fake", "--method", method, "--json").stdout)[
            "scores"
        ]["cross_fitted"]
    call("blend", "fake", "--weights", "a=2,b=1", "--submit")
    assert len(json.loads(call("evaluate", "fake", "--json").stdout)["rows"]) > 4
    call("submit", "fake", "--blend", "auto", "--out", "out.csv")
    call("doctor")
    call("init", "digits")
    for command in (
        ["kfold", "digits.yaml"],
        ["run", "digits.yaml"],
        ["demo-data", "shapes", "out"],
    ):
        error = call(*command, expect=2).stderr
        assert "pip install 'ensembler-toolkit[train]'" in error, error
        assert len(error.strip().splitlines()) == 1, error
    print("1 passed, 0 failed")


if __name__ == "__main__":
    main()

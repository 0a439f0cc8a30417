"""The commands on an invented run: no network, no image."""

import json
import os
import signal
import stat
import subprocess
import sys

import pandas as pd
import pytest

from ensembler.predictions.testing import write_fake_run


@pytest.fixture
def run(tmp_path):
    return write_fake_run(
        tmp_path / "artifacts" / "fake",
        {"good": 2.0, "fair": 1.2, "poor": 0.6},
        n_train=150,
    )


def one_json(done):
    (content,) = [json.loads(done.stdout)]
    return content


def test_ens_alone_prints_its_help(ens_here):
    assert ens_here().stdout == ens_here("--help").stdout


def test_bag_answers_to_ensemble(ens_here):
    pages = [
        ens_here(name, "--help").stdout.splitlines()[1:] for name in ("bag", "ensemble")
    ]
    assert pages[0] == pages[1]


def test_blend_evaluate_ls_and_submit_tell_scripts_what_they_promise(ens_here, run):
    blend = one_json(
        ens_here("blend", "fake", "--weights", "good=2,fair=1", "--submit", "--json")
    )
    assert blend["weights"] == pytest.approx({"good": 2 / 3, "fair": 1 / 3, "poor": 0})
    assert set(blend["scores"]) == {"fitted", "cross_fitted", "holdout"}
    assert {"over", "metric", "value", "low", "high"} <= set(blend["gain"])
    assert {"run", "name", "method", "seconds", "warnings"} <= set(blend)

    rows = one_json(ens_here("evaluate", "fake", "--json"))["rows"]
    assert {(r["kind"], r["name"], r["split"]) for r in rows} >= {
        ("member", "good", "oof"),
        ("blend", "weights", "holdout"),
    }
    submitted = [r for r in rows if r["submitted"]]
    assert {r["name"] for r in submitted} == {"weights"}
    assert {"accuracy", "log_loss"} <= set(rows[0]["metrics"])

    listing = one_json(ens_here("ls", "fake", "--json"))
    assert [(m["name"], m["folds_done"], m["folds"]) for m in listing["members"]] == [
        ("fair", 3, 3), ("good", 3, 3), ("poor", 3, 3)]  # fmt: skip
    assert listing["submission"].endswith("submission.csv")
    assert [r["run"] for r in one_json(ens_here("ls", "--json"))["runs"]] == ["fake"]

    handed = one_json(
        ens_here(
            "submit",
            "fake",
            "--blend",
            "weights",
            "--format",
            "probs",
            "--out",
            "p.csv",
            "--json",
        )
    )
    table = pd.read_csv(run.folder.parents[1] / "p.csv")
    assert handed["rows"] == len(table) == 20
    assert table.columns.tolist() == ["id", "cat", "dog", "eel"]


def test_tables_are_printed_for_people(ens_here, run):
    assert "cross_fitted" in ens_here("blend", "fake", "--method", "soft").stdout
    assert "blend soft" in ens_here("evaluate", "fake", "--by-view").stdout
    assert "good" in ens_here("ls", "fake").stdout
    assert "submission" in ens_here("ls").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["blend", "fake", "--weights", "goo=1"],
            "unknown member in --weights 'goo'; did you mean 'good'",
        ),
        (["blend", "fake", "--weights", "good=-1"], "weights are finite and not negative"),
        (["blend", "fake", "--weights", "good=nan"], "weights are finite and not negative"),
        (["blend", "fake", "--weights", "1,2"], "2 values for 3 members: fair, good, poor"),
        (["blend", "fake", "--weights", "0,0,0"], "not all zero"),
        (["blend", "fake", "--weights", "good=1,2"], "every weight a name"),
        (
            ["blend", "fake", "--method", "softt"],
            "unknown blend method 'softt'; did you mean 'soft'",
        ),
        (["blend", "fake", "--metric", "acc"], "unknown metric 'acc'"),
        (["blend", "fake", "--members", "good,nix"], "unknown member 'nix'"),
        (
            ["blend", "fake", "--method", "greedy", "--option", "round=3"],
            "did you mean 'rounds'",
        ),
        (["blend", "fake", "--name", "../x"], "cannot be the name of a blend"),
        (["blend", "fkae"], "unknown run 'fkae'; did you mean 'fake'"),
        (["blend"], "Missing argument"),
        (["blend", "fake", "--methd", "soft"], "No such option"),
        (["evaluate", "fake", "--views", "rot90"], "unknown view 'rot90' of member"),
        (["evaluate", "fake", "--merge", "men"], "did you mean 'mean'"),
        (["submit", "fake"], "has no blend yet"),
        (["run", "nothing.yaml"], "does not exist"),
        (["kfold", "."], "is a folder, expected a recipe file"),
        (["init", "nowhere"], "nowhere does not exist"),
        (["demo-data", "cats", "out"], "unknown kind of demo data 'cats'"),
    ],
    ids=lambda value: " ".join(value[:4]) if isinstance(value, list) else "",
)
def test_a_wrong_request_is_one_clear_error(ens_here, run, arguments, message):
    expected = 1 if arguments == ["submit", "fake"] else 2
    done = ens_here(*arguments, expect=expected)
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2
    assert done.stdout == ""


def test_an_error_is_one_json_object_too_when_asked(ens_here, run):
    done = ens_here("blend", "fkae", "--json", expect=2)
    said = one_json(done)
    assert said["error"] == done.stderr.removeprefix("error: ").strip()
    assert said["exit_code"] == 2
    assert said["code"] == "missing_run"
    assert [step["command"] for step in said["next"]] == ["ens ls --json"]


def test_a_template_is_matched_in_ids_order_and_columns_or_says_what_differs(
    ens_here, run, tmp_path
):
    ens_here("blend", "fake", "--method", "soft")
    ids = run.samples.test["id"].tolist()[::-1]
    pd.DataFrame({"image": ids, "answer": "cat"}).to_csv(tmp_path / "t.csv", index=False)
    ens_here("submit", "fake", "--template", "t.csv")
    table = pd.read_csv(run.submission_path)
    assert (table.columns.tolist(), table["image"].tolist()) == (["image", "answer"], ids)
    pd.DataFrame({"image": [*ids[1:], "s9999"], "answer": "cat"}).to_csv(
        tmp_path / "t.csv", index=False
    )
    done = ens_here("submit", "fake", "--template", "t.csv", expect=2)
    assert (
        "1 of its 20 ids are not predicted, such as 's9999'; 1 predicted ids are not in it"
        in done.stderr
    )
    pd.DataFrame({"id": ids, "dog": 0, "eel": 0, "cat": 0}).to_csv(
        tmp_path / "t.csv", index=False
    )
    assert (
        "did you mean --format probs"
        in ens_here("submit", "fake", "--template", "t.csv", expect=2).stderr
    )
    ens_here("submit", "fake", "--template", "t.csv", "--format", "probs")
    assert pd.read_csv(run.submission_path).columns.tolist() == ["id", "dog", "eel", "cat"]


def test_reading_never_writes(ens_here, run):
    ens_here("blend", "fake", "--method", "soft", "--submit")
    before = {p: p.stat().st_mtime_ns for p in run.folder.rglob("*")}
    for folder in [run.folder, *(p for p in run.folder.rglob("*") if p.is_dir())]:
        folder.chmod(stat.S_IREAD | stat.S_IEXEC)
    ens_here("ls", "fake")
    ens_here("evaluate", "fake")
    assert {p: p.stat().st_mtime_ns for p in run.folder.rglob("*")} == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_named(ens_here, run):
    (run.folder / "blends").mkdir()
    (run.folder / "blends").chmod(stat.S_IREAD | stat.S_IEXEC)
    assert "no permission" in ens_here("blend", "fake", "--method", "soft", expect=2).stderr


@pytest.mark.parametrize("name", ["oof.npy", "test.npy", "member.json"])
def test_an_altered_file_is_named_and_nothing_is_computed_from_it(ens_here, run, name):
    path = run.folder / "members" / "good" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    for command in (["evaluate", "fake"], ["blend", "fake", "--method", "soft"]):
        done = ens_here(*command, expect=1)
        assert name in done.stderr


def test_an_unknown_engine_is_refused_before_anything_is_read(ens_here, run):
    done = ens_here("tta-predict", "fake", "--engine", "openvin", expect=2)
    assert "unknown engine 'openvin'; did you mean 'openvino'?" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", ["ls", "ls fake", "evaluate fake", "blend fake --method soft --json"]
)
def test_a_closed_standard_output_is_no_error(ens, fake_run, command):
    closed = f"exec {' '.join(ens.command(*command.split()))} >&-"
    done = subprocess.run(
        ["sh", "-c", closed],
        cwd=ens.folder,
        env=ens.environment(),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    if "blend" in command:
        assert fake_run.blend("soft").record.method == "soft"


@pytest.mark.slow
def test_a_terminal_without_utf8_shows_what_it_can_and_json_stays_whole(ens):
    write_fake_run(ens.folder / "artifacts" / "fake", classes=("Käse", "犬", "eel"))
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    for command in (
        ["evaluate", "fake", "--json"],
        ["diversity", "fake"],
        ["blend", "fake", "--method", "soft"],
    ):
        done = subprocess.run(
            ens.command(*command),
            env=ens.environment() | plain,
            capture_output=True,
            cwd=ens.folder,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b""), done.stderr.decode()
        if "--json" in command:
            assert json.loads(done.stdout)["classes"] == ["Käse", "犬", "eel"]


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_command_stopped_while_it_starts_ends_in_one_line(ens, fake_run, sent):
    """Whatever is being imported at that instant."""
    code = (
        "import os, sys; from ensembler.cli.app import main\n"
        "sent = int(sys.argv.pop())\n"
        "import ensembler.predictions.store as s; s.RunStore.open = lambda *a: "
        "os.kill(os.getpid(), sent)\n"
        "sys.argv[0] = 'ens'; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "blend", "fake", str(int(sent))],
        env=ens.environment(), cwd=ens.folder, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (
        1,
        "error: stopped; give the same command again\n",
    )


def test_names_that_look_like_formulas_are_drawn_as_they_are(ens_here, tmp_path):
    write_fake_run(tmp_path / "artifacts" / "fake", classes=("US$_$", r"$\bad$", "plain"))
    ens_here("diversity", "fake", "--html", "page.html")
    assert "<svg" in (tmp_path / "page.html").read_text()


def test_a_class_called_id_is_exported_without_names_only(ens_here, tmp_path):
    write_fake_run(tmp_path / "artifacts" / "fake", classes=("id", "other"))
    assert (
        "class 'id' cannot be a column"
        in ens_here("export", "fake", "--member", "a", expect=2).stderr
    )
    ens_here("export", "fake", "--member", "a", "--format", "npy")

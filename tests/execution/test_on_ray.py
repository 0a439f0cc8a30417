"""Folds on a cluster: with a driver and nodes of this process, and at the end with a real one."""

import os
import secrets
import subprocess
import sys
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from ensembler import Recipe, Run
from ensembler.errors import EnsemblerError, RequestError
from ensembler.execution import on_ray
from ensembler.execution.executors import executor_of
from ensembler.execution.fold_on_node import do_fold, forget, look
from ensembler.execution.on_ray import OnRay, check_node, check_token, driver_environment
from ensembler.execution.orders import Look, Node, Order, described, message_of
from ensembler.machine.environment import versions
from ensembler.machine.execution import Cluster, Execution
from ensembler.pipeline.train import train_recipe
from ensembler.predictions.store import RunStore
from ensembler.progress import Epoch, FoldDoneMessage, NoteMessage, RecordedProgress
from ensembler.stop import Stop, Stopped

HERE = Node(name="here", slots=2, versions=versions(), sees_run=False)


def test_a_cluster_of_others_needs_a_token_and_ours_has_one_in_memory_alone():
    theirs = Cluster("head:6379")
    with pytest.raises(RequestError, match="--insecure-cluster"):
        check_token(theirs, {})
    with pytest.raises(RequestError, match="without a token"):
        check_token(theirs, {"RAY_AUTH_TOKEN": "x"})
    check_token(theirs, {"RAY_AUTH_TOKEN": "x", "RAY_AUTH_MODE": "token"})
    check_token(Cluster("head:6379", may_be_open=True), {})
    check_token(Cluster(), {})
    ours = driver_environment(Cluster(), {"HOME": "/home"})
    assert len(ours["RAY_AUTH_TOKEN"]) == 64
    assert ours["RAY_AUTH_TOKEN"] != driver_environment(Cluster(), {})["RAY_AUTH_TOKEN"]
    assert "RAY_AUTH_TOKEN" not in os.environ


def test_only_a_cluster_of_this_machine_is_kept_to_loopback():
    loopback = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
    assert driver_environment(Cluster(), {})[loopback] == "0"
    assert driver_environment(Cluster("127.0.0.1:6379"), {})[loopback] == "0"
    assert loopback not in driver_environment(Cluster("head:6379"), {})
    assert driver_environment(Cluster("head:6379"), {})["RAY_USAGE_STATS_ENABLED"] == "0"


def test_a_node_that_differs_or_cannot_read_the_images_is_named():
    check_node(HERE)
    older = {**versions(), "torch": "1.0"}
    with pytest.raises(RequestError, match=r"node here has torch 1\.0, and here it is"):
        check_node(HERE.model_copy(update={"versions": older}))
    with pytest.raises(RequestError, match=r"node here cannot train: cannot read image"):
        check_node(HERE.model_copy(update={"problem": "cannot read image a.png"}))


def test_a_node_says_what_it_sees(tmp_path):
    (tmp_path / "probe").write_text("token")
    (tmp_path / "a.png").write_bytes(b"")
    asked = Look(probe=str(tmp_path / "probe"), token="token", images=())
    assert look(asked)["sees_run"]
    other = asked.model_copy(update={"token": "x", "images": (str(tmp_path / "b.png"),)})
    found = look(other)
    assert not found["sees_run"]
    assert "b.png" in found["problem"]


def test_messages_arrive_as_they_were_sent():
    epoch = Epoch("cnn", 1, 2, 3, 0.5, None, 1.5)
    assert message_of(described(epoch)) == epoch
    assert message_of(described(NoteMessage("so"))) == NoteMessage("so")
    assert described(FoldDoneMessage(None, "")) is None  # said once it is in the run


class FakeDriver:
    """A driver whose nodes are this process; `lost` says which orders never come back."""

    def __init__(self, lost=(), node=HERE):
        self.lost, self.node = set(lost), node
        self.said, self.orders, self.asked, self.copies = [], [], False, {}

    def send(self, kind, content=None):
        if kind == "fold":
            self.orders.append(content)
            self._do(content)
        elif kind == "ask":
            self.asked = True

    def next(self, kind, _stop):
        assert kind == "nodes"
        return {"nodes": [self.node.model_dump()]}

    def receive(self, _seconds):
        said, self.said = self.said, []
        return said

    def _do(self, order):
        # as it is on its way
        order = Order.model_validate_json(order.model_dump_json())
        if order.number in self.lost:
            message = {"number": order.number, "message": "WorkerCrashedError: died"}
            self.said.append({"kind": "lost", "content": message})
            return
        self.copies = order.files
        answer, contents = do_fold(order, lambda _: None, lambda: self.asked)
        files = {}
        for member, of_member in contents.items():
            for name, content in of_member.items():
                path = Path(f"received-{order.number}-{member}-{name}")
                path.write_bytes(content)
                files.setdefault(member, {})[name] = str(path)
        content = {**answer.model_dump(), "files": files, "number": order.number}
        self.said.append({"kind": "answer", "content": content})


def train(recipe, folder, driver=None, monkeypatch=None, overrides=(), **options):
    if driver is not None:
        monkeypatch.setattr(on_ray, "find_spec", lambda _: True)
        monkeypatch.setattr(on_ray, "_driver", lambda *_: nullcontext(driver))
    cluster = None if driver is None else Cluster()
    return train_recipe(
        Recipe.load(recipe, ["defaults.epochs=1", *overrides]),
        recipe.parent / folder,
        execution=Execution("cpu", cluster=cluster),
        members=["narrow"],
        **options,
    )


@pytest.fixture
def own_temporary(monkeypatch, tmp_path):
    """Copies of runs lie in a folder of the test."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def logits(recipe, folder):
    return Run.open("shapes", recipe.parent / folder).members["narrow"].oof_logits


@pytest.mark.slow
def test_folds_of_nodes_that_do_not_see_the_run_are_those_trained_here_to_the_last_bit(
    recipe, monkeypatch, own_temporary
):
    train(recipe, "here")
    driver = FakeDriver(lost=[2])
    progress = RecordedProgress()
    there = train(recipe, "there", driver, monkeypatch, progress=progress)
    assert there.complete == ("narrow",)
    assert [order.fold for order in driver.orders] == [0, 1, 2]
    assert all(order.folder is None for order in driver.orders)
    np.testing.assert_array_equal(logits(recipe, "there"), logits(recipe, "here"))
    (lost,) = progress.warnings
    assert "narrow fold 1 was lost on the cluster (WorkerCrashedError: died)" in lost
    assert sorted(task.fold for task in progress.finished) == [0, 1, 2]
    assert not list(recipe.parent.glob("received-*"))
    (copies,) = own_temporary.glob("ens-*")
    assert list(copies.iterdir())
    forget("shapes", driver.copies)
    assert not list(copies.iterdir())


@pytest.mark.slow
def test_nodes_that_see_the_run_work_in_its_folder(recipe, monkeypatch):
    driver = FakeDriver(node=HERE.model_copy(update={"sees_run": True}))
    assert train(recipe, "there", driver, monkeypatch).complete == ("narrow",)
    store = RunStore(recipe.parent / "there" / "shapes")
    assert {order.folder for order in driver.orders} == {str(store.folder)}
    assert driver.copies == {}


def test_a_training_that_fails_on_a_node_fails_once(recipe, monkeypatch, own_temporary):
    driver = FakeDriver(node=HERE.model_copy(update={"slots": 1}))
    found = train(recipe, "there", driver, monkeypatch, ["defaults.lr=1.0e+30"])
    assert len(driver.orders) == 1
    (failure,) = found.failures
    assert failure.message.startswith("member 'narrow' fold 0: the loss is not finite")


def test_a_cluster_without_room_for_a_fold_is_a_wrong_request(recipe, monkeypatch):
    driver = FakeDriver(node=HERE.model_copy(update={"slots": 0}))
    with pytest.raises(RequestError, match="no node of the cluster has the"):
        train(recipe, "there", driver, monkeypatch)


def test_a_job_that_is_stopped_does_not_wait_for_a_cluster_to_answer(tmp_path):
    out, theirs = os.pipe()
    stop = Stop()
    stop.request("deadline")
    with pytest.raises(Stopped):
        on_ray._Driver(None, out, tmp_path / "log").next("ready", stop)
    os.close(theirs)
    os.close(out)


def test_a_driver_that_is_gone_ends_the_job_with_one_line(tmp_path):
    log = tmp_path / "log"
    log.write_text("a\nFailed to connect to GCS within 60 seconds.\n")
    out, theirs = os.pipe()
    os.close(theirs)
    driver = on_ray._Driver(None, out, log)
    with pytest.raises(
        EnsemblerError, match=r"is gone \(Failed to connect to GCS.*resumes"
    ):
        driver.receive(0.1)
    os.close(out)


def test_the_executor_is_chosen_by_the_execution():
    assert isinstance(executor_of(Execution("cpu", cluster=Cluster())), OnRay)


class Killing(RecordedProgress):
    """Kills a worker at its first epoch, and lets the second node vanish at the first fold."""

    def __init__(self, cluster):
        super().__init__()
        self.cluster, self.killed = cluster, []

    def epoch(self, epoch):
        super().epoch(epoch)
        if not self.killed:
            self.killed = _workers()[:1]
            for pid in self.killed:
                os.kill(pid, 9)

    def fold_done(self, task, text):
        super().fold_done(task, text)
        if len(self.finished) == 1:
            self.cluster.stdin.write("remove\n")
            self.cluster.stdin.flush()


def _workers():
    """The processes of this user in which a node trains a fold."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            name = path.read_bytes()
        except OSError:
            continue
        if name.startswith(b"ray::_fold"):
            found.append(int(path.parent.name))
    return found


@pytest.fixture
def two_nodes(monkeypatch, recipe):
    """A cluster of two raylets on loopback; they need not see the run."""
    settings = {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
        "OMP_NUM_THREADS": "1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(recipe.parent), prepend=os.pathsep)
    cluster, address = _started()
    yield cluster, address
    cluster.stdin.close()
    cluster.wait()


def _started():
    """The process of a cluster and its address; a busy machine may need some tries."""
    script = Path(__file__).parents[1] / "support" / "two_raylets.py"
    for _ in range(3):
        cluster = subprocess.Popen(
            [sys.executable, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        address = cluster.stdout.readline().strip()
        if address:
            return cluster, address
        cluster.communicate()
    raise AssertionError("no cluster started in three tries")


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.timeout(900)
@pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray")
def test_a_real_cluster_loses_a_worker_and_a_node_and_gives_the_same_bits(
    recipe, two_nodes
):
    cluster, address = two_nodes
    progress = Killing(cluster)
    loaded = Recipe.load(recipe, ["defaults.epochs=3"])
    found = train_recipe(
        loaded,
        recipe.parent / "there",
        execution=Execution("cpu", cluster=Cluster(address, sees_run=False)),
        progress=progress,
    )
    assert found.complete == ("narrow", "wide")
    assert progress.killed
    assert len(progress.finished) == 6
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train_recipe(loaded, recipe.parent / "here", execution=Execution("cpu"))
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(logits(recipe, "there"), logits(recipe, "here"))

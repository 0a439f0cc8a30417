import pytest

from ensembler.cli.cluster import cluster_of
from ensembler.errors import RequestError, UnknownNameError
from ensembler.machine.execution import Cluster, Execution


def test_folds_are_trained_here_unless_a_cluster_is_asked_for():
    assert cluster_of("local", None, None, insecure=False) is None
    asked = cluster_of("ray", "head:6379", 0.5, insecure=True)
    assert asked == Cluster("head:6379", 0.5, may_be_open=True)


def test_options_of_a_cluster_go_with_it():
    with pytest.raises(UnknownNameError, match="did you mean 'ray'"):
        cluster_of("rai", None, None, insecure=False)
    with pytest.raises(RequestError, match="--address goes with --executor ray"):
        cluster_of("local", "head:6379", None, insecure=False)
    with pytest.raises(RequestError, match="--insecure-cluster goes with"):
        cluster_of("local", None, None, insecure=True)
    with pytest.raises(RequestError, match="--address is empty"):
        cluster_of("ray", " ", None, insecure=False)
    with pytest.raises(RequestError, match="Ray gives them"):
        Execution.on("cuda:0,cuda:1", cluster=Cluster())


def test_an_open_cluster_is_refused_before_anything_is_read(ens_here, recipe, monkeypatch):
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    given = ["kfold", recipe, "--executor", "ray", "--address", "head:6379"]
    found = ens_here(*given, expect=2)
    assert "--insecure-cluster" in found.stderr

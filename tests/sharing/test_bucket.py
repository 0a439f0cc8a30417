"""Pools named by a URL: in memory, and on an S3 server of this machine."""

import uuid

import pytest

from ensembler.errors import EnsemblerError, RequestError
from ensembler.predictions.store import RunStore
from ensembler.sharing.bucket import Bucket
from ensembler.sharing.ls import list_pool
from ensembler.sharing.places import open_place
from ensembler.sharing.pull import pull_members
from ensembler.sharing.share import share_run


@pytest.fixture
def url():
    pytest.importorskip("fsspec")
    return f"memory://{uuid.uuid4().hex}/team"


def test_a_pool_in_memory_is_shared_listed_and_pulled(team, url):
    ann, bob = team
    first = share_run(ann, url, author="Ann")
    assert first.bytes > 0
    assert share_run(ann, url, author="Ann").bytes == 0
    assert [member.name for member in list_pool(url).members] == ["a", "b"]
    assert pull_members(bob, url).members == ("a", "b@Ann")


def test_a_bucket_that_holds_other_things_does_not_become_a_pool(team, url):
    place = open_place(url)
    place.create("notes.txt", b"todo")
    with pytest.raises(RequestError, match="not a pool and not empty"):
        share_run(team[0], url)
    with pytest.raises(RequestError, match="is not a pool"):
        pull_members(team[0], url)


def test_a_file_is_created_once(url):
    place = Bucket.open(url)
    assert place.create("a/b.json", b"first")
    assert not place.create("a/b.json", b"second")
    assert place.read("a/b.json", 10) == b"first"
    assert place.listing() == {"a/b.json": 5}
    with pytest.raises(EnsemblerError, match="more than 2 bytes"):
        place.read("a/b.json", 2)


def test_an_unknown_scheme_or_a_client_that_is_missing_is_said(team):
    with pytest.raises(RequestError, match="nosuch://x"):
        share_run(team[0], "nosuch://x/y")
    with pytest.raises(RequestError, match="needs the extra"):
        share_run(team[0], "gs://x/y")


@pytest.mark.slow
def test_a_pool_on_s3_has_every_record_once(team, monkeypatch):
    server = pytest.importorskip("moto.server")
    pytest.importorskip("s3fs")
    import s3fs

    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    try:
        host, port = running.get_host_and_port()
        environment = {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem(skip_instance_cache=True).mkdir("team")
        ann, bob = team
        share_run(ann, "s3://team/pool", author="Ann")
        share_run(bob, "s3://team/pool", author="Bob")
        assert share_run(ann, "s3://team/pool", author="Ann").bytes == 0
        found = [
            (member.name, member.author) for member in list_pool("s3://team/pool").members
        ]
        assert found == [("a", "Ann"), ("b", "Ann"), ("b", "Bob"), ("c", "Bob")]
        assert pull_members(RunStore(ann.folder), "s3://team/pool").members == (
            "a",
            "b",
            "b@Bob",
            "c",
        )
        place = Bucket.open("s3://team/pool")
        assert place.create("x", b"1")
        assert not place.create("x", b"2")
    finally:
        running.stop()

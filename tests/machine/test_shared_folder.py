import json
import time

import pytest

from ensembler.errors import RequestError
from ensembler.files import claim
from ensembler.machine import shared_folder
from ensembler.machine.shared_folder import check_shared


def test_locks_of_a_local_folder_hold_among_two_processes(tmp_path):
    found = check_shared(tmp_path)
    assert found.holds
    assert len(found.machines) == 1
    assert "--hold 60" in found.message
    assert list(tmp_path.iterdir()) == []


def holds(folder, seconds=60.0):
    content = {"machine": "there", "until": time.time() + seconds}
    (folder / ".ens-doctor.json").write_text(json.dumps(content))


def test_a_lock_that_another_machine_holds_has_to_be_seen(tmp_path):
    holds(tmp_path)
    with claim(tmp_path / ".ens-doctor.lock"):
        found = check_shared(tmp_path)
    assert found.holds
    assert found.machines[0] == "there"
    # without its lock, though it says that it holds it
    found = check_shared(tmp_path)
    assert not found.holds
    assert "would spoil it" in found.message


def test_what_a_killed_check_has_left_is_no_holder(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_folder, "_is_free_for_others", lambda _: True)
    holds(tmp_path, seconds=-1.0)
    found = check_shared(tmp_path)
    assert not found.holds
    assert "a second process could take a lock" in found.message


def test_a_folder_that_is_not_there_is_a_wrong_request(tmp_path):
    with pytest.raises(RequestError, match="expected a folder"):
        check_shared(tmp_path / "none")

import os

from ensembler.machine.cores import available_cores


def test_there_is_a_core_and_no_more_than_the_process_may_run_on():
    assert 1 <= available_cores() <= len(os.sched_getaffinity(0))


def test_an_environment_variable_lowers_it(monkeypatch):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert available_cores() == 1

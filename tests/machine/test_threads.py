import sys
from types import ModuleType

import numpy as np
import threadpoolctl
from threadpoolctl import threadpool_info

from ensembler.machine.threads import one_thread


def blas_threads():
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_blas_has_one_thread_inside_the_block_and_what_it_had_after_it():
    np.ones((2, 2)) @ np.ones((2, 2))
    before = blas_threads()
    with one_thread():
        assert set(blas_threads()) == {1}
    assert blas_threads() == before


def test_libraries_that_a_module_brings_later_are_limited_too(monkeypatch):
    looked = []
    real = threadpoolctl.ThreadpoolController
    monkeypatch.setattr(
        threadpoolctl, "ThreadpoolController", lambda: looked.append(1) or real()
    )
    monkeypatch.setitem(sys.modules, "brings_a_library", ModuleType("brings_a_library"))
    for _ in range(3):
        with one_thread():
            pass
    assert len(looked) == 1
    monkeypatch.setitem(sys.modules, "brings_another", ModuleType("brings_another"))
    with one_thread():
        pass
    assert len(looked) == 2

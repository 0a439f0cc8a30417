import numpy as np
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

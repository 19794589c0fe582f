"""Tests use small tensors, on which threads cost more than they bring."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def run_kernels():
    """Calls a function where kernels run: here with a GPU, else in a process that interprets them.

    Triton decides when it is imported, which this process may have done long ago.
    """
    if torch.cuda.is_available():
        yield lambda function, *args: function(*args)
        return
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TRITON_INTERPRET", "1")
            pool.submit(int).result()  # starts the process
        yield lambda function, *args: pool.submit(function, *args).result()

"""Peak memory of one prediction in a process of its own, and what machine it was.

    .venv/bin/python tests/benchmarks/inference_memory.py mlp:2048x3 64 1000

prints one JSON object: the MiB that the process holds once model, posterior and inputs are there
(and a small model has been run, which loads whatever is loaded at first use), and the most that it
held during the prediction. Needs Linux.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from inference_rivals import Problem, quartiles

import bbnn_uq

INPUT_SHAPE = (1, 28, 28)
FLAGS = "avx2 fma avx_vnni avx512f avx512_vnni avx512_bf16 amx_bf16 amx_int8 asimd i8mm bf16 sve"


def resident(field: str) -> float:
    """MiB in use now (``VmRSS``), or at most since the record was last started anew (``VmHWM``).

    Not getrusage's ``ru_maxrss``: a new process starts with that of the one that started it.
    """
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    found = dict(line.split(":", 1) for line in status.splitlines())
    return int(found[field].split()[0]) / 1024


def forget_peak() -> None:
    """Start the kernel's record anew: what building the posterior took is not the prediction's."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def predict_once(spec: str, inputs: int, networks: int) -> dict[str, float]:
    torch.set_num_threads(2)
    small = Problem("mlp:64x2", INPUT_SHAPE, inputs)
    bbnn_uq.predict(small.model, small.posterior(), small.x, num_samples=2, device="cpu")
    problem = Problem(spec, INPUT_SHAPE, inputs)
    posterior = problem.posterior()
    forget_peak()
    before = resident("VmRSS")
    bbnn_uq.predict(problem.model, posterior, problem.x, num_samples=networks, device="cpu")
    return {"before": before, "peak": resident("VmHWM")}


def compare_memory(spec: str, inputs: int, counts: Sequence[int], repeats: int) -> dict[str, Any]:
    """MiB that a prediction adds, by number of networks, and the last count's over the first's."""
    added: dict[int, list[float]] = {count: [] for count in counts}
    for _repetition in range(repeats):
        for count in counts:
            command = [sys.executable, __file__, spec, str(inputs), str(count)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found = json.loads(done.stdout)
            added[count].append(found["peak"] - found["before"])
    values = {str(count): np.array(each) for count, each in added.items()}
    first, *_, last = values.values()
    mib = {count: quartiles(each) for count, each in values.items()}
    return {"mib": mib, "ratio": quartiles(last / first)}


def machine() -> dict[str, Any]:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    facts = {key.strip(): value for key, _, value in (line.partition(":") for line in lines)}
    flags = set(facts.get("flags", facts.get("Features", "")).split())
    return {
        "cpu": facts.get("model name", platform.machine()).strip(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "flags": [flag for flag in FLAGS.split() if flag in flags],
        "kernels": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    print(json.dumps(predict_once(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))

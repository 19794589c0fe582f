"""ood on inputs that are larger than what it may add to its memory."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from bbnn_uq.npz_file import GrowingNpz

MEGABYTE = 2**20
INPUTS = 40_000
FEATURES = 7_500  # bytes each: 286 MB in all, four times that as float32

CODE = """
import json, os, sys
import numpy as np
from bbnn_uq import pages, report
from bbnn_uq.cli import main
from bbnn_uq.inference import parts

report.NUM_RESAMPLES = 20
report.draw_figures = lambda *_, **__: None
pages.report_page = lambda **_: ""
parts.LARGE_BYTES = 2**22  # so that results stay on disk, too

def peak(kind):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(kind))

def run(id_data, out):
    try:
        main([
            "ood", "--posterior", "run/posterior.safetensors", "--id", id_data, "--ood", "far.npz",
            "--scores", "entropy", "--method", "mode", "--device", "cpu", "--out", out, "--quiet",
        ])
    except SystemExit as stopped:
        assert stopped.code == 0, stopped.code

run("small.npz", "first")  # what is loaded once
before = peak("VmHWM")
run("large.npz", "second")
print(json.dumps(peak("VmHWM") - before))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux's /proc")
def test_memory_does_not_grow_with_the_inputs(tmp_path, run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    with GrowingNpz("large.npz") as file:
        for _ in range(INPUTS // 1000):
            x = generator.integers(0, 256, (1000, FEATURES), np.uint8)
            file.append({"x": x, "y": (x[:, 0] > 127).astype(np.int64)})
    np.savez("small.npz", x=x[:200], y=(x[:200, 0] > 127).astype(np.int64))
    np.savez("far.npz", x=x[200:300] // 4)
    assert os.path.getsize("large.npz") > 280 * MEGABYTE
    train = ["train", "--data", "small.npz", "--model", "mlp:8x1", "--epochs", "1", "--quiet"]
    assert run(*train, "--device", "cpu", "--out", "run").status == 0
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    added = json.loads(done.stdout)
    with open("second/report.json", encoding="utf-8") as file:
        report = json.load(file)
    assert report["id"]["n"] == INPUTS
    # A part with its copies, and what one pass of the network takes: 130 to 160 MB.
    assert added < 240 * MEGABYTE

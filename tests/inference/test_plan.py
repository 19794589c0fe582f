"""The planner: what it chooses, that it counts bytes right, and that budgets hold."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from bbnn_uq.inference.plan import Workload, choose_networks, make_plan, peak_bytes

MLP = Workload(
    weights=10_000_000,
    network=20_000_000,
    kept=10_000_000,
    packed=1_250_000,
    drawing=60_000_000,
    per_row=40_000,
    per_input=500,
)


def planned(work=MLP, **options):
    defaults = {"num_inputs": 10_000, "num_samples": 32, "precision": "int8"}
    return make_plan(work, **(defaults | {"memory_budget": 2**30} | options))


LEAST = {"drawn": 98_000_000, "packed": 150_000_000, "ready": 2**29}


@pytest.mark.parametrize("inputs", [1, 300, 10**4, 10**7, None])
@pytest.mark.parametrize(
    ("networks", "budget"),
    [
        (networks, int(least * factor))
        for networks, least in LEAST.items()
        for factor in (1, 1.1, 9)
    ],
)
def test_no_plan_exceeds_its_budget(budget, inputs, networks):
    options = {"num_inputs": inputs, "memory_budget": budget, "networks": networks}
    plan = planned(**options, groupable=lambda: True)
    kept = {"drawn": 0, "packed": MLP.packed, "ready": MLP.kept}[networks] * 32
    more = (plan.group - 1) * (0 if networks == "ready" else MLP.kept)
    used = MLP.network + MLP.drawing + kept + more
    used += plan.group * plan.rows * MLP.per_row + plan.block * MLP.per_input
    assert used == plan.peak_bytes <= budget
    assert 1 <= plan.rows <= plan.block
    assert inputs is None or plan.block <= inputs


def test_a_plan_does_not_grow_with_the_number_of_networks():
    few, many = (planned(num_samples=count) for count in (10, 100_000))
    assert (few.peak_bytes, few.rows, few.block) == (many.peak_bytes, many.rows, many.block)


def test_a_budget_below_one_network_is_refused_and_the_least_one_works():
    with pytest.raises(ValueError, match=r"memory_budget of 47\.7 MiB .* at least 92\.1 MiB"):
        planned(memory_budget=50_000_000)
    assert planned(memory_budget=int(92.1 * 2**20)).rows >= 1


def test_networks_are_run_at_once_only_for_few_inputs_and_where_the_model_allows():
    small = Workload(10_000, 100_000, 80_000, 1_250, 100_000, 10_000, 500)
    assert planned(small, num_inputs=2, groupable=lambda: True).group == 32
    assert planned(small, num_inputs=2, groupable=lambda: False).group == 1
    assert planned(small, num_inputs=2).group == 1
    assert planned(small, num_inputs=10_000, groupable=lambda: True).group == 1
    assert planned(num_inputs=1, groupable=lambda: True).group == 2  # 16 MiB of weights
    assert planned(num_inputs=1, networks="ready", groupable=lambda: True).group == 32


def test_networks_are_kept_as_the_budget_allows():
    choices = [choose_networks(MLP, 100, int(mib * 2**20)) for mib in (2048, 1350, 400, 300, 200)]
    assert choices == ["ready", "ready", "packed", "packed", "drawn"]


def test_a_plan_can_be_read():
    text = str(planned())
    for part in ("10,000 inputs in one block", "32 networks in int8", "drawn when", "MiB"):
        assert part in text
    assert "a stream of inputs in blocks of" in str(planned(num_inputs=None))
    assert "as many networks as needed" in str(planned(num_samples=None))


def test_live_bytes_are_counted_without_those_that_were_there_before():
    weight, x = torch.zeros(100, 100), torch.zeros(50, 100)
    # The product and its bias are alive together; the view is of the weight.
    assert peak_bytes(lambda: (x @ weight.t()) + 1) == 2 * 50 * 100 * 4
    chain = nn.Sequential(*[nn.ReLU() for _ in range(10)])
    assert peak_bytes(lambda: chain(x)) == 2 * 50 * 100 * 4  # a layer's input and output


MEASURE = """
import ctypes, sys, torch
from bbnn_uq import BernoulliPosterior, models, predict
torch.set_num_threads(1)
budget, inputs, samples, precision = int(sys.argv[1]), *map(int, sys.argv[2:4]), sys.argv[4]
model = models.MLP(100, (1500, 1500), 10)
natural = {n: torch.zeros_like(p) for n, p in model.named_parameters() if p.ndim == 2}
real = {n: v for n, v in model.state_dict().items() if n not in natural}
posterior = BernoulliPosterior(natural, real)
x = torch.randn(inputs, 100)
def run(x, budget, samples):
    return predict(model, posterior, x, num_samples=samples, precision=precision,
                   memory_budget=budget, device="cpu")
posterior.summary()
run(x[:2], 2**30, 1)  # libraries, thresholds
def status(key):
    return int(next(l for l in open("/proc/self/status") if l.startswith(key)).split()[1]) * 1024
ctypes.CDLL(None).malloc_trim(0)
open("/proc/self/clear_refs", "w").write("5")  # the peak starts from here
before = status("VmRSS")
print(run(x, budget, samples).metadata["plan"], file=sys.stderr)
print(status("VmHWM") - before)
"""


def measured(budget, inputs, samples, precision):
    command = [sys.executable, "-c", MEASURE, *map(str, (budget, inputs, samples, precision))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_measured_memory_stays_within_the_budget_and_does_not_grow_with_networks():
    # 2.4 M weights: one network with what it takes to draw it is 25 to 35 MB.
    budget = 60 * 2**20
    few, many = ([measured(budget, 50_000, n, "int8") for _ in range(2)] for n in (2, 14))
    wide = measured(budget, 50_000, 2, "float32")
    assert max(*few, *many, wide) < budget
    # The allocator's peaks vary from process to process, by up to 20 MB; networks that were kept
    # would be in all of them.
    assert min(many) - min(few) < 12e6  # 12 networks kept as int8 would be 29 MB, as float32 115 MB

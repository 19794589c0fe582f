"""Seconds of a prediction: bbnn_uq beside the authors' loop, torch.func.vmap and bayesian-torch.

    .venv/bin/python tests/benchmarks/inference.py --out docs/benchmarks/inference.json
    .venv/bin/python tests/benchmarks/inference.py --quick --only mlp-1 drawing

Prints the tables of docs/benchmarks/inference.md. What is compared takes turns: one repetition runs
each contestant once (short ones for a fifth of a second), in an order that is reversed every time,
and the first repetition is thrown away. A factor is the median over repetitions of the ratio within
one, with its quartiles. Rivals run a few networks and their seconds are divided by them: their
cost is linear in networks. The machine's own matrix products take turns with the rest.

bayesian-torch is timed where it is installed (`pip install --no-deps bayesian-torch`: its layers
need nothing but torch). The memory section needs Linux.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from inference_memory import compare_memory, machine
from inference_rivals import (
    PRODUCTS,
    RIVALS,
    Clock,
    Problem,
    Runner,
    agreement,
    drawing,
    product_rates,
    products,
    quartiles,
)

import bbnn_uq
from bbnn_uq._files import atomic_path

THREADS = 2
BUDGET = 2 * 2**30  # bytes that a Predictor may keep
MLP, IMAGE = "mlp:2048x3", (1, 28, 28)


@dataclass(frozen=True)
class Row:
    """One way to ask bbnn_uq, and the factors over the authors' loop that it should reach.

    ``start`` is ``first`` (predict, with a posterior that nothing has seen before), ``again``
    (predict, with the posterior of the last call) or ``warm`` (a Predictor that has answered).
    """

    call: str
    start: str = "first"
    method: str = "monte_carlo"
    at_least: float | None = None
    goal: float | None = None
    rate_at_least: float | None = None  # shares of the machine's int8 product rate
    rate_goal: float | None = None


@dataclass(frozen=True)
class Workload:
    name: str
    inputs: int
    networks: int
    rival_networks: int = 0  # that a rival runs in one repetition
    rows: tuple[Row, ...] = ()
    model: str = MLP
    input_shape: tuple[int, ...] = IMAGE

    def problem(self) -> Problem:
        return Problem(self.model, self.input_shape, self.inputs)


ONE_INPUT = (
    Row("predict, first request", at_least=6, goal=10),
    Row("predict, again", "again"),
    Row("Predictor, warm, 2 GiB", "warm", at_least=100, goal=300),
    Row("local: predict, first request", "first", "local", at_least=200, goal=300),
    Row("local: predict, again", "again", "local"),
    Row("local: Predictor, warm", "warm", "local", at_least=300, goal=500),
)
BULK = Row("predict", at_least=9, goal=13, rate_at_least=0.75, rate_goal=1.0)
CONVOLUTIONS = Row("predict", at_least=3)
WORKLOADS = (
    Workload("mlp-10000", 10_000, 32, 2, (BULK,)),
    Workload("mlp-1000", 1_000, 32, 4, (Row("predict", at_least=6, goal=9),)),
    Workload("mlp-1", 1, 100, 4, ONE_INPUT),
    Workload("vgg-256", 256, 16, 1, (CONVOLUTIONS,), "vgg", (3, 32, 32)),
    Workload("precision", 1_000, 8),
    Workload("drawing", 1, 1),
    Workload("memory", 64, 1_000),  # beside a hundredth of the networks
)


def quick(workload: Workload) -> Workload:
    """The same in a size that shows no more than that it runs."""
    spec = "mlp:64x3" if workload.model == MLP else "vgg:0.0625"
    inputs, networks = min(workload.inputs, 20), min(workload.networks, 200)
    return replace(workload, model=spec, inputs=inputs, networks=networks)


def ours(problem: Problem, networks: int, row: Row, **options: Any) -> Runner:
    options |= {"num_samples": networks, "method": row.method, "device": "cpu"}
    known = problem.posterior()
    if row.start == "warm":
        predictor = bbnn_uq.Predictor(problem.model, known, memory_budget=BUDGET, **options)
        return Runner(lambda _: predictor.predict(problem.x), networks=networks)
    return Runner(
        lambda posterior: bbnn_uq.predict(problem.model, posterior, problem.x, **options),
        problem.posterior if row.start == "first" else lambda: known,
        networks,
    )


def speed(workload: Workload, clock: Clock) -> dict[str, Any]:
    """Every row of a workload beside every rival."""
    problem = workload.problem()
    made = {name: make(problem, workload.rival_networks) for name, make in RIVALS.items()}
    rivals = {name: runner for name, runner in made.items() if runner is not None}
    rows = {row.call: ours(problem, workload.networks, row) for row in workload.rows}
    seconds, outputs = clock.interleaved(rows | rivals | products())
    limits, operations = product_rates(seconds), 2 * problem.macs() * workload.inputs
    found = []
    for row in workload.rows:
        rate = operations / seconds[row.call]
        facts = {
            "precision": outputs[row.call].metadata["precision"],
            "seconds": quartiles(seconds[row.call] * workload.networks),
            "factors": {name: quartiles(seconds[name] / seconds[row.call]) for name in rivals},
            "operations_per_second": quartiles(rate),
            "shares": {name: quartiles(rate / limit) for name, limit in limits.items()},
        }
        found.append(asdict(row) | facts)
    return asdict(workload) | {
        "macs": problem.macs(),
        "rows": found,
        "rival_seconds_per_network": {name: quartiles(seconds[name]) for name in rivals},
        "product_operations_per_second": {name: quartiles(each) for name, each in limits.items()},
        "seconds_per_network": {name: values.tolist() for name, values in seconds.items()},
    }


def precisions(workload: Workload, clock: Clock) -> dict[str, Any]:
    """Each precision on the same networks."""
    problem, row = workload.problem(), Row("predict, again", "again")
    runners = {name: ours(problem, workload.networks, row, precision=name) for name in PRODUCTS}
    seconds, outputs = clock.interleaved(runners | products())
    limits, operations = product_rates(seconds), 2 * problem.macs() * workload.inputs
    exact = outputs["float32"].probs
    rows = {
        name: {
            "seconds": quartiles(seconds[name] * workload.networks),
            "factor": quartiles(seconds["float32"] / seconds[name]),
            "share": quartiles(operations / seconds[name] / limits[name]),
            "largest_change": float(np.abs(outputs[name].probs - exact).max()),
        }
        for name in runners
    }
    return asdict(workload) | {"rows": rows}


def draws(workload: Workload, clock: Clock) -> dict[str, Any]:
    """One network of ±1, by us and by ordinary generators."""
    problem = workload.problem()
    seconds, _ = clock.interleaved(drawing(problem))
    rows = {
        name: {"seconds": quartiles(each), "factor": quartiles(each / seconds["bbnn_uq.draw"])}
        for name, each in seconds.items()
    }
    return asdict(workload) | {"weights": problem.posterior().num_weights, "rows": rows}


def memory(workload: Workload, clock: Clock) -> dict[str, Any]:
    few, repeats = workload.networks // 100, min(clock.repeats, 3)
    found = compare_memory(workload.model, workload.inputs, (few, workload.networks), repeats)
    return asdict(workload) | found


SECTIONS = {"precision": precisions, "drawing": draws, "memory": memory}


def cell(values: list[float], digits: int = 1) -> str:
    low, median, high = (f"{value:,.{digits}f}" for value in values)
    return f"{median} [{low}, {high}]"


def cells(found: dict[str, list[float]], names: Iterable[str], scale: float = 1.0) -> list[str]:
    return [cell([scale * v for v in found[n]]) if n in found else "not installed" for n in names]


def verdict(value: float, at_least: float | None, goal: float | None) -> list[str]:
    """What was asked for, and which of it was reached."""
    asked = {"at least": at_least, "goal": goal}
    reached = [name for name, limit in asked.items() if limit is not None and value >= limit]
    none = "–" if at_least is None else "**no**"
    shown = ["–" if limit is None else f"{limit:g}" for limit in asked.values()]
    return [*shown, reached[-1] if reached else none]


def table(title: str, columns: str, rows: list[list[str]]) -> None:
    if not rows:
        return
    print(f"\n{title}\n\n| {columns} |\n" + "|---" * (columns.count("|") + 1) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


def speed_tables(results: list[dict[str, Any]]) -> None:
    factors, rates, costs = [], [], []
    for result in results:
        size = f"{result['inputs']:,} × {result['networks']}, {result['model']}"
        for row in result["rows"]:
            start = [size, row["call"], row["precision"]]
            asked = verdict(row["factors"]["authors"][1], row["at_least"], row["goal"])
            seconds = f"{row['seconds'][1]:.4g}"
            factors.append([*start, seconds, *cells(row["factors"], RIVALS), *asked])
            if row["method"] == "monte_carlo" and result["inputs"] > 1:
                rate = f"{row['operations_per_second'][1] / 1e9:.0f}"
                shares = [cell(row["shares"][name], 2) for name in PRODUCTS]
                asked = verdict(row["shares"]["int8"][1], row["rate_at_least"], row["rate_goal"])
                rates.append([*start, rate, *shares, *asked])
        spent = cells(result["rival_seconds_per_network"], RIVALS, 1e3)
        costs.append(
            [size, *spent, *cells(result["product_operations_per_second"], PRODUCTS, 1e-9)]
        )
    rivals, kinds, start = " | ".join(RIVALS), " | ".join(PRODUCTS), "inputs × networks | call"
    asked = "at least | goal | reached"
    title = "How many times as fast as the rivals"
    table(title, f"{start} | precision | seconds | {rivals} | {asked}", factors)
    title = "Share of the machine's rate in 2048³ products; what is asked for is a share of int8's"
    table(title, f"{start} | precision | 10⁹ operations/s | {kinds} | {asked}", rates)
    title = "Rivals, ms per network; the machine's products, 10⁹ operations/s"
    table(title, f"inputs × networks | {rivals} | {kinds}", costs)


def print_tables(state: dict[str, Any]) -> None:
    """Medians, with the first and third quartile in brackets."""
    print(f"{state['machine']}, {state['repeats']} repetitions")
    if state["speed"]:
        speed_tables(state["speed"])
    if found := state.get("precision"):
        columns = "seconds | × float32 | share of its own product rate | largest probability change"
        rows = [
            [
                *[name, cell(row["seconds"], 3), cell(row["factor"], 2), cell(row["share"], 2)],
                f"{row['largest_change']:.1g}",
            ]
            for name, row in found["rows"].items()
        ]
        table(f"{found['inputs']:,} × {found['networks']}", f"precision | {columns}", rows)
    if found := state.get("drawing"):
        rows = [
            [name, *cells(row, ["seconds"], 1e3), cell(row["factor"], 2)]
            for name, row in found["rows"].items()
        ]
        table(f"Drawing {found['weights']:,} weights", "by | ms | times ours", rows)
    if found := state.get("memory"):
        rows = [[networks, cell(added)] for networks, added in found["mib"].items()]
        rows.append(["ratio", cell(found["ratio"], 3)])
        table(f"Peak memory that predict adds, {found['inputs']} inputs", "networks | MiB", rows)


def main() -> None:
    names = [workload.name for workload in WORKLOADS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all")
    parser.add_argument("--out", type=Path, help="JSON file, written after each workload")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    torch.set_grad_enabled(False)
    clock = Clock(2, least=0.01) if arguments.quick else Clock(arguments.repeats)
    state: dict[str, Any] = {"schema": 1, "machine": machine(), "repeats": clock.repeats}
    state |= {"quick": arguments.quick, "standard_errors_between": agreement(), "speed": []}
    for workload in (each for each in WORKLOADS if each.name in arguments.only):
        print(workload.name, file=sys.stderr, flush=True)
        size = quick(workload) if arguments.quick else workload
        if workload.name in SECTIONS:
            state[workload.name] = SECTIONS[workload.name](size, clock)
        else:
            state["speed"].append(speed(size, clock))
        if arguments.out is not None:
            with atomic_path(arguments.out) as temporary:
                temporary.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
    print_tables(state)


if __name__ == "__main__":
    main()

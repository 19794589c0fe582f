"""A model and a posterior, ready to predict by a plan."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor, nn

from bbnn_uq import network_sums
from bbnn_uq._checks import check_choice
from bbnn_uq._progress import progress_bar
from bbnn_uq.inference.architecture import Architecture
from bbnn_uq.inference.block import MOST_SAMPLES, Block, Job, warn_if_not_covered
from bbnn_uq.inference.distributed import Shard
from bbnn_uq.inference.plan import (
    Plan,
    Workload,
    choose_networks,
    make_plan,
    workload_of,
)
from bbnn_uq.inference.runners import (
    Local,
    Networks,
    Runner,
    can_be_grouped,
    forward_bytes,
)
from bbnn_uq.inference.settings import Options, Settings
from bbnn_uq.inference.sources import Drawn, Fused, ModeNetworks, Packed, Ready, Source
from bbnn_uq.input_stream import InputStream
from bbnn_uq.inputs import normalise
from bbnn_uq.likelihoods import as_likelihood
from bbnn_uq.posterior import Posterior
from bbnn_uq.predictive import Predictive
from bbnn_uq.regression import RegressionPredictive

__all__ = ["Engine"]

FUSED_INPUTS = 16
"""Inputs for which a GPU draws weights within their products: of one call of the kernel."""
PROBED_ROWS = 8


class Engine:
    """A model and a posterior on one device, ready to predict.

    Args:
        model: the architecture; it is left unchanged.
        posterior: whose names and shapes are those of the model.
        settings: which networks, and how.
        probe: one input as the model takes it, normalised.
        keep: whether networks stay for other calls, as the budget allows.
    """

    def __init__(
        self,
        model: nn.Module,
        posterior: Posterior,
        settings: Settings,
        probe: Tensor,
        *,
        keep: bool = False,
    ) -> None:
        self.settings = settings
        self.posterior = posterior
        precision = settings.precision
        if settings.method == "local":
            # Means are no ±1, so products of small types would round them.
            allowed = ("auto", "float32", "float64")
            check_choice(precision, "precision with method='local'", allowed)
            precision = "exact" if precision == "auto" else precision
        self.architecture = Architecture(model, posterior, probe, precision, settings.device)
        self.likelihoods = [
            as_likelihood(member.metadata.get("likelihood")).to(settings.device)
            for member in getattr(posterior, "posteriors", (posterior,))
        ]
        self._probe = probe
        self._work = self._measured()
        self._networks = "drawn"
        self._runners = self._made(keep)
        if settings.method == "monte_carlo" and settings.num_samples is not None:
            warn_if_not_covered(posterior, settings.num_samples, settings.seed)

    @property
    def _is_local(self) -> bool:
        return self.settings.method == "local"

    def _meta_state(self) -> dict[str, Tensor]:
        """Weights without values, of the types that they are computed in."""
        weights = {
            name: torch.empty(shape, dtype=self.architecture.weight_dtype(name), device="meta")
            for name, shape in self.architecture.weight_shapes.items()
        }
        return self.architecture.placed(self.posterior.member(0).real_state) | weights

    def _measured(self) -> Workload:
        x = self._probe.expand(PROBED_ROWS, *self._probe.shape[1:])
        peak, self.num_outputs = forward_bytes(self.architecture, self._meta_state(), x)
        work = workload_of(self.architecture, per_row=-(-peak // PROBED_ROWS))
        if self._is_local:
            # Means and variances of each member, what it takes to compute them, and two products.
            size = self.architecture.dtype.itemsize * work.weights
            held = 2 * size * len(self.likelihoods)
            work = replace(work, network=held, kept=0, drawing=size, per_row=3 * work.per_row)
        return work

    def _made(self, keep: bool) -> dict[str, Runner]:
        """What computes outputs, by the way in which networks are had."""
        settings, architecture, posterior = self.settings, self.architecture, self.posterior

        def networks(source: Source) -> Runner:
            return Networks(architecture, source, len(self.likelihoods))

        if self._is_local:
            return {"drawn": Local(architecture, posterior, settings.seed)}
        if settings.method == "mode":
            return {"drawn": networks(ModeNetworks(architecture, posterior))}
        drawn = Drawn(architecture, posterior, settings.seed)
        if keep and settings.num_samples is not None:
            self._networks = choose_networks(
                self._work, settings.num_samples, settings.memory_budget
            )
        if self._networks == "ready":
            return {"ready": networks(Ready(drawn, architecture, settings.num_samples or 0))}
        if self._networks == "packed" and settings.device.type == "cpu":
            return {"packed": networks(Packed(drawn, architecture, settings.num_samples or 0))}
        self._networks = "drawn"  # a GPU draws about as fast as it unpacks
        runners = {"drawn": networks(drawn)}
        if self._can_be_fused():
            runners["fused"] = networks(Fused(drawn, architecture, posterior))
        return runners

    def _can_be_fused(self) -> bool:
        """Whether a kernel can draw the weights of every product within it."""
        architecture = self.architecture
        if architecture.device.type != "cuda":
            return False
        from bbnn_uq.philox import triton_stream  # late: loads Triton

        floating = architecture.precision in ("float32", "bfloat16")
        linear = all(len(shape) == 2 for shape in architecture.weight_shapes.values())
        possible = triton_stream.available() and floating and linear and len(self.likelihoods) == 1
        return possible and self._groupable

    def runner(self, plan: Plan) -> Runner:
        """What computes the outputs of a plan's networks."""
        return self._runners[plan.networks]

    @cached_property
    def _groupable(self) -> bool:
        return can_be_grouped(self.architecture, self.posterior, self._probe)

    def plan(self, stream: InputStream, options: Options) -> Plan:
        """How these inputs are going to be run."""
        one, temperatures = self.num_outputs, {1.0, *options.score_temperatures}
        columns = 8 * network_sums.num_columns(one, len(temperatures))
        # A block's normalised copy is float32 or float64; results are made of the sums.
        per_input = stream.bytes_each() + 8 * self._probe.numel()
        kept = options.num_groups if options.num_groups > 1 else 0
        per_input += columns * (options.num_groups + kept + 2)
        if options.keep_samples:
            per_input += 8 * one * (self.settings.num_samples or MOST_SAMPLES)
        # A row's terms are computed before they are added up, for several networks at once.
        work = replace(self._work, per_input=per_input, per_row=self._work.per_row + 4 * columns)
        few = stream.length is not None and stream.length <= FUSED_INPUTS
        networks = "fused" if few and "fused" in self._runners else self._networks
        return make_plan(
            work,
            num_inputs=stream.length,
            num_samples=self.settings.num_samples,
            precision=self.architecture.precision,
            memory_budget=self.settings.memory_budget,
            batch_size=options.batch_size,
            networks=networks,
            groupable=(lambda: self._groupable) if self.settings.method == "monte_carlo" else None,
        )

    def run(
        self,
        stream: InputStream,
        options: Options,
        *,
        shard: Shard | None = None,
        progress: bool | str = False,
        start: int = 0,
        most: int | None = None,
    ) -> Iterator[Predictive | RegressionPredictive]:
        """The predictives of blocks of inputs, in their order; mostly a single one.

        Args:
            stream: the inputs.
            options: what to find out about them.
            shard: this process's place among others.
            progress: whether to show a bar, or its title.
            start: the first input to predict, where the stream can be read from anywhere.
            most: inputs of a block, where the plan's are more.
        """
        plan = self.plan(stream, options)
        if most is not None and most < plan.block:
            plan = replace(plan, block=most, rows=min(plan.rows, most))
        count = self.settings.num_samples
        if count is None and (stream.length is None or plan.block < stream.length):
            raise ValueError(
                f"num_samples='auto' needs all inputs in memory, and memory_budget holds "
                f"{plan.block:,} at a time; allow more memory, or name a number of networks"
            )
        total = None if stream.length is None else stream.length * (count or MOST_SAMPLES)
        title, done = progress if isinstance(progress, str) else "predicting", start * (count or 0)
        first = start
        with progress_bar(
            title, total, enabled=bool(progress), unit="inputs × networks", done=done
        ) as advance:
            job = Job(
                self.settings,
                options,
                plan,
                shard or Shard.alone(),
                self.runner(plan),
                self.posterior,
                self.likelihoods,
                self.architecture.precision,
                advance,
            )
            for block in stream.blocks(plan.block, start):
                x = normalise(block, self.posterior.metadata.get("normalisation"))
                yield Block(job, x, first).run()
                first += len(block)

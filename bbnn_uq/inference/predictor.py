"""Predictor: networks drawn once, for many requests."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from bbnn_uq.calibrated import DEFAULT_SCORE, Calibration, posterior_digest
from bbnn_uq.inference.engine import Engine
from bbnn_uq.inference.plan import Plan
from bbnn_uq.inference.results import collected
from bbnn_uq.inference.settings import Options, Settings
from bbnn_uq.input_stream import InputStream
from bbnn_uq.inputs import normalise
from bbnn_uq.likelihoods import Classification, as_likelihood
from bbnn_uq.posterior import Posterior
from bbnn_uq.predictive import Predictive
from bbnn_uq.regression import RegressionPredictive
from bbnn_uq.scores import parse_score

__all__ = ["Predictor"]


class Predictor:
    """:func:`bbnn_uq.predict`, kept warm: networks are drawn once and serve every request.

    They are kept as the products want them, or packed at one bit a weight where
    ``memory_budget`` does not hold that, or drawn anew for each request where it does not hold
    either: :meth:`plan` says which. Results are those of ``predict``: in int8 to the last bit, in
    other precisions to rounding, since kept networks are run more at once. Any number of threads
    may ask at the same time; the budget is for each of them, the kept networks being shared.

    Args:
        model: the architecture, as for :func:`bbnn_uq.predict`; it is left unchanged and not kept.
        posterior: whose names and shapes are those of the model.
        num_samples: number of networks S.
        seed: which sequence of networks.
        method: ``monte_carlo``, ``local`` (means and variances are kept) or ``mode``.
        precision: as for :func:`bbnn_uq.predict`.
        device: where to compute; a GPU when there is one and none is named.
        memory_budget: bytes, 2 GiB unless given.
        calibration: an earlier one of the same networks; :meth:`calibrate` makes one.
        warm_up: inputs to draw the networks for at once; without, the first request does it.

    Raises:
        TypeError, ValueError: as :func:`bbnn_uq.predict`, on construction or on the first request.

    Example:
        >>> from bbnn_uq import BernoulliPosterior
        >>> model = nn.Linear(2, 2, bias=False)
        >>> posterior = BernoulliPosterior({"weight": torch.tensor([[9.0, 0.0], [-9.0, 0.0]])})
        >>> predictor = Predictor(model, posterior, num_samples=4)
        >>> predictor.predict(torch.tensor([[1.0, 0.0]])).probs.round(3)
        array([[0.881, 0.119]])
        >>> predictor.plan(torch.tensor([[1.0, 0.0]])).networks
        'ready'
    """

    def __init__(
        self,
        model: nn.Module,
        posterior: Posterior,
        *,
        num_samples: int = 32,
        seed: int = 0,
        method: str = "monte_carlo",
        precision: str = "auto",
        device: torch.device | str | None = None,
        memory_budget: int | None = None,
        calibration: Calibration | None = None,
        warm_up: Any = None,
    ) -> None:
        self._settings = Settings.checked(
            posterior, num_samples=num_samples, seed=seed, method=method, precision=precision,
            device=device, memory_budget=memory_budget,
        )  # fmt: skip
        if self._settings.num_samples is None:
            raise ValueError("num_samples must be a number here: the networks are drawn beforehand")
        self._model: nn.Module | None = model
        self._posterior = posterior
        self._fitted = None if calibration is None else self._checked(calibration)
        self._engine: Engine | None = None
        self._lock = threading.Lock()
        if warm_up is not None:
            self._ready(InputStream(warm_up))

    @torch.no_grad()
    def predict(
        self,
        inputs: Any,
        *,
        score_temperatures: Sequence[float] = (1.0,),
        batch_size: int | None = None,
        keep_samples: bool = False,
        num_groups: int = 1,
        progress: bool = False,
    ) -> Predictive | RegressionPredictive:
        """The predictive of these inputs; arguments as for :func:`bbnn_uq.predict`."""
        options = Options.checked(
            score_temperatures=score_temperatures, batch_size=batch_size,
            keep_samples=keep_samples, num_groups=num_groups,
        )  # fmt: skip
        stream = InputStream(inputs)
        return collected(self._ready(stream).run(stream, options, progress=progress), None)

    def calibrate(self, x_val: Any, y_val: Any, **options: Any) -> Calibration:
        """Fit temperature, conformal sets and OOD threshold on validation data, and use them.

        Args:
            x_val: validation inputs, which neither trained the model nor test it.
            y_val: their classes (N,).
            options: ``score``, ``retention``, ``conformal`` and ``seed``, as
                :meth:`Calibration.fit` takes them.

        Returns:
            The :class:`~bbnn_uq.calibrated.Calibration`, which can be saved and given to another
            Predictor of the same networks.

        Raises:
            TypeError, ValueError: as :meth:`Calibration.fit`, or the outputs are no classes.
        """
        score = options.get("score", DEFAULT_SCORE)
        predictive = self._classes_of(x_val, score)
        fitted = Calibration.fit(predictive, y_val, **options)
        source = fitted.source | {"digest": posterior_digest(self._posterior)}
        self._fitted = replace(fitted, source=source)
        return self._fitted

    @property
    def calibration(self) -> Calibration:
        """What :meth:`calibrate` fitted, or what was given."""
        if self._fitted is None:
            raise ValueError(
                "this Predictor is not calibrated; call calibrate(x_val, y_val) first, or pass "
                "calibration=Calibration.load(path)"
            )
        return self._fitted

    def _checked(self, calibration: Calibration) -> Calibration:
        if not isinstance(calibration, Calibration):
            raise TypeError(
                f"calibration must be a Calibration, got {type(calibration).__name__}; "
                "Calibration.load reads one from a file"
            )
        fitted_on = calibration.source.get("digest")
        if fitted_on is not None and fitted_on != posterior_digest(self._posterior):
            raise ValueError(
                "calibration was fitted with another posterior, whose sets and threshold do not "
                "hold for this one; call calibrate(x_val, y_val)"
            )
        return calibration

    def calibrated_probs(self, x: Any) -> np.ndarray:
        """Class probabilities (N, C) at the fitted temperature; ``x``: inputs or a predictive."""
        return self.calibration.probs(self._answer(x))

    def prediction_sets(self, x: Any, alpha: float = 0.1) -> np.ndarray:
        """Sets, bool (N, C), that hold the class of a new input with probability at least 1 − α.

        Args:
            x: inputs, or their predictive from :meth:`predict`.
            alpha: share of misses to allow, in (0, 1).
        """
        return self.calibration.prediction_sets(self._answer(x), alpha)

    def is_ood(self, x: Any) -> np.ndarray:
        """Whether each input is more unusual than what the calibration retains, bool (N,).

        Args:
            x: inputs, or their predictive from :meth:`predict` at the score's temperature.
        """
        return self.calibration.is_ood(self._answer(x))

    def _answer(self, x: Any) -> Predictive:
        return x if isinstance(x, Predictive) else self._classes_of(x, self.calibration.score)

    def _classes_of(self, x: Any, score: str) -> Predictive:
        likelihood = as_likelihood(self._posterior.member(0).metadata.get("likelihood"))
        if not isinstance(likelihood, Classification):
            raise TypeError(
                "calibration is of class probabilities, and this posterior predicts real targets; "
                "metrics.interval_calibration_curve shows whether their intervals hold"
            )
        predictive = self.predict(x, score_temperatures=(parse_score(score)[1],))
        assert isinstance(predictive, Predictive)
        return predictive

    def plan(self, inputs: Any, *, batch_size: int | None = None) -> Plan:
        """How :meth:`predict` would run these inputs; print it to read it."""
        stream = InputStream(inputs)
        return self._ready(stream).plan(stream, Options.checked(batch_size=batch_size))

    @torch.no_grad()
    def _ready(self, stream: InputStream) -> Engine:
        with self._lock:
            if self._engine is None:
                assert self._model is not None
                probe = normalise(stream.first, self._posterior.metadata.get("normalisation"))
                self._engine = Engine(
                    self._model, self._posterior, self._settings, probe, keep=True
                )
                self._model = None
            return self._engine

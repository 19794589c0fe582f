"""Softmax of a linear map of log-probabilities, fitted by maximum likelihood with a penalty.

Weights are a matrix (C, C), row c for the score of class c, or the diagonal (C,) of one. Arrays
are class by input, (C, N): sums over a few classes are then sums of long rows, which are fast.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64
from scipy.optimize import minimize

from bbnn_uq._rows import row_blocks

__all__ = ["fit_linear", "identity", "linear_probs", "log_probs", "mean_nll"]

# A probability below it counts as this much. A logarithm needs a floor, and with a lower one a
# single probability of 1e-300 would outweigh all others as a regressor, although no split could
# measure anything so small. It changes the identity's NLL by at most C times itself.
_FLOOR = 1e-12

_Weights = Float64[np.ndarray, "*matrix_or_diagonal"]
_Intercepts = Float64[np.ndarray, "classes"]
_Parameters = Float64[np.ndarray, "classes regressors"]
_Logs = Float64[np.ndarray, "classes inputs"]


def log_probs(probs: Float64[np.ndarray, "inputs classes"]) -> _Logs:
    """Logarithm of max(p, 1e-12), class by input."""
    floored = np.maximum(probs.T, _FLOOR, order="C")
    return np.log(floored, out=floored)


def identity(num_classes: int, *, diagonal: bool) -> tuple[_Weights, _Intercepts]:
    """Weights and intercepts of the map that changes nothing."""
    return np.ones(num_classes) if diagonal else np.eye(num_classes), np.zeros(num_classes)


def _log_softmax(logs: _Logs, weights: _Weights, intercepts: _Intercepts) -> _Logs:
    scores = weights[:, None] * logs if weights.ndim == 1 else weights @ logs
    scores += intercepts[:, None]
    scores -= scores.max(axis=0)
    scores -= np.log(np.exp(scores).sum(axis=0))
    return scores


def linear_probs(logs: _Logs, weights: _Weights, intercepts: _Intercepts) -> _Logs:
    """Softmax of the map's scores, class by input."""
    result = np.exp(_log_softmax(logs, weights, intercepts))
    result /= result.sum(axis=0)
    return result


def mean_nll(
    logs: _Logs, labels: Int64[np.ndarray, "inputs"], weights: _Weights, intercepts: _Intercepts
) -> tuple[float, _Weights, _Intercepts]:
    """Mean NLL of the labels, and its gradient by weights and intercepts."""
    total, by_weights, by_intercepts = 0.0, np.zeros_like(weights), np.zeros_like(intercepts)
    for block in row_blocks(logs, axis=1):
        part = logs[:, block]
        log_likelihood = _log_softmax(part, weights, intercepts)
        of_label = labels[block], np.arange(part.shape[1])
        total -= float(log_likelihood[of_label].sum())
        residual = np.exp(log_likelihood, out=log_likelihood)
        residual[of_label] -= 1.0  # the derivative by the scores
        by_intercepts += residual.sum(axis=1)
        by_weights += (
            np.einsum("cn,cn->c", residual, part) if weights.ndim == 1 else residual @ part.T
        )
    return total / len(labels), by_weights / len(labels), by_intercepts / len(labels)


def _curvature(
    logs: _Logs, weights: _Weights, intercepts: _Intercepts
) -> Float64[np.ndarray, "classes regressors regressors"]:
    """Second derivative of the mean NLL by the parameters of one class, intercept last."""
    num_classes, num_inputs = logs.shape
    size = 2 if weights.ndim == 1 else num_classes + 1
    result = np.zeros((num_classes, size, size))
    for block in row_blocks(logs, axis=1):
        part = logs[:, block]
        ones = np.ones((1, part.shape[1]))
        variance = np.exp(_log_softmax(part, weights, intercepts))
        variance *= 1.0 - variance
        for number in range(num_classes):
            own = part[number : number + 1] if weights.ndim == 1 else part
            regressors = np.concatenate([own, ones])
            result[number] += (regressors * variance[number]) @ regressors.T
    return result / num_inputs


def _penalty_strengths(
    num_classes: int,
    num_inputs: int,
    *,
    diagonal: bool,
    off_diagonal_penalty: float,
    intercept_penalty: float,
) -> _Parameters:
    """What the squared distance of each parameter from the identity costs."""
    shape = (num_classes, 2 if diagonal else num_classes + 1)
    # A normal prior of standard deviation 1 around the identity, on the scale of a mean NLL. It
    # makes the minimum unique, and finite where labels can be told apart without an error; with
    # few labels it is what keeps classes that were not confused from being thought unconfusable.
    strengths = np.full(shape, 0.5 / num_inputs)
    strengths[:, -1] += intercept_penalty / num_classes
    if not diagonal:
        others = ~np.eye(*shape, dtype=bool)
        others[:, -1] = False
        strengths[others] += off_diagonal_penalty / (num_classes * (num_classes - 1))
    return strengths


def fit_linear(
    logs: _Logs,
    labels: Int64[np.ndarray, "inputs"],
    start: tuple[_Weights, _Intercepts],
    *,
    off_diagonal_penalty: float = 0.0,
    intercept_penalty: float = 0.0,
) -> tuple[_Weights, _Intercepts]:
    """Weights and intercepts of the least mean NLL plus penalty, which is 0 at the identity.

    The search only goes downhill: from the identity it ends where the NLL is no worse, however
    strong the penalty.
    """
    diagonal = start[0].ndim == 1
    neutral = np.column_stack(identity(len(logs), diagonal=diagonal))
    strengths = _penalty_strengths(
        *logs.shape,
        diagonal=diagonal,
        off_diagonal_penalty=off_diagonal_penalty,
        intercept_penalty=intercept_penalty,
    )
    # Log-probabilities are all negative and go together, so that the valley is narrow. In
    # coordinates where the curvature by each class's own parameters is 1 it is round.
    curvature = _curvature(logs, *start) + 2.0 * strengths[:, :, None] * np.eye(neutral.shape[1])
    to_round = np.linalg.inv(np.linalg.cholesky(curvature))
    origin = np.column_stack(start)

    def parameters(steps: Float64[np.ndarray, "steps"]) -> _Parameters:
        return origin + np.einsum("cij,ci->cj", to_round, steps.reshape(origin.shape))

    def split(theta: _Parameters) -> tuple[_Weights, _Intercepts]:
        weights = theta[:, 0] if diagonal else theta[:, :-1]
        return np.ascontiguousarray(weights), theta[:, -1].copy()

    def objective(
        steps: Float64[np.ndarray, "steps"],
    ) -> tuple[float, Float64[np.ndarray, "steps"]]:
        theta = parameters(steps)
        loss, by_weights, by_intercepts = mean_nll(logs, labels, *split(theta))
        away = theta - neutral
        slope = np.column_stack([by_weights, by_intercepts]) + 2.0 * strengths * away
        loss += float((strengths * away**2).sum())
        return loss, np.einsum("cij,cj->ci", to_round, slope).ravel()

    found = minimize(
        objective,
        np.zeros(origin.size),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": 2000, "gtol": 1e-7, "ftol": 1e-11, "maxcor": 20},
    )
    return split(parameters(found.x))

"""The page of equations: its paths lead somewhere, and formulas as written give the numbers."""

import importlib
import inspect
import math
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from scipy.integrate import quad
from scipy.stats import norm

import bbnn_uq
from bbnn_uq import bernoulli, metrics
from bbnn_uq.comparison.significance import holm
from bbnn_uq.conformal import ConformalClassifier
from bbnn_uq.inference.products import _quantised
from bbnn_uq.monte_carlo import jackknife_error
from bbnn_uq.optim import bayesian_learning_rule_
from bbnn_uq.philox import thresholds

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "equations.md").read_text(encoding="utf-8")
PATHS = sorted(set(re.findall(r"`(bbnn_uq(?:\.\w+)+)`", PAGE)))
MATH = re.findall(r"\$\$?([^$]+)\$\$?", PAGE)

NO_NUMBERS = {"default_metrics"}  # returns functions, each of which is on the page


def resolve(path):
    """Import as much as is a module, and look up the rest."""
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for name in parts[length:]:
            found = getattr(found, name)
        return found
    raise AssertionError(path)


@pytest.mark.parametrize("path", PATHS)
def test_paths_resolve(path):
    assert resolve(path) is not None


def test_every_number_of_the_metrics_is_there():
    functions = {n for n in metrics.__all__ if inspect.isfunction(getattr(metrics, n))}
    assert functions >= NO_NUMBERS
    missing = {n for n in functions - NO_NUMBERS if f"bbnn_uq.metrics.{n}" not in PATHS}
    assert not missing


def test_the_math_renders_on_code_hosts_too():
    assert len(MATH) > 150
    assert PAGE.count("$") % 2 == 0
    for formula in MATH:
        # Markdown takes a backslash before punctuation, and a bar ends a table's cell.
        assert not re.search(r"\\[^a-zA-Z]", formula), formula
        assert not set("|<>*`") & set(formula), formula
        assert formula.count("{") == formula.count("}"), formula
        assert formula.count(r"\left") == formula.count(r"\right") + formula.count(r"\leftarrow"), (
            formula
        )
    for table in re.findall(r"(?:^\|.*\n)+", PAGE, re.MULTILINE):
        assert len({row.count("|") for row in table.splitlines()}) == 1, table


@pytest.fixture(scope="module")
def samples():
    generator = np.random.default_rng(0)
    return generator.dirichlet([0.6, 0.8, 1.0], (5, 40))


@pytest.fixture(scope="module")
def labels():
    return np.random.default_rng(1).integers(3, size=40)


def test_the_model():
    natural, prior = np.array([-1.3, 0.2, 2.0]), np.array([0.5, -0.1, 1.0])
    p, p0 = (1 / (1 + np.exp(-2 * each)) for each in (natural, prior))
    t, t0 = torch.tensor(natural), torch.tensor(prior)
    flip = 1 / (1 + np.exp(2 * abs(natural)))
    log_variance = 2 * (math.log(2) - abs(natural) - np.log1p(np.exp(-2 * abs(natural))))
    np.testing.assert_allclose(0.5 * np.log(p / (1 - p)), natural)
    np.testing.assert_allclose(bernoulli.mean(t), 2 * p - 1)
    np.testing.assert_allclose(bernoulli.flip_probability(t), flip)
    np.testing.assert_allclose(bernoulli.log_sech_squared(t), log_variance)
    np.testing.assert_allclose(bernoulli.variance(t), 1 - (2 * p - 1) ** 2)
    np.testing.assert_allclose(
        bernoulli.entropy(t), 2 * abs(natural) * flip - np.log(1 - flip), atol=1e-12
    )
    np.testing.assert_allclose(bernoulli.entropy(t), -p * np.log(p) - (1 - p) * np.log(1 - p))
    kl = (p * np.log(p / p0) + (1 - p) * np.log((1 - p) / (1 - p0))).sum()
    assert bernoulli.kl_divergence(t, t0) == pytest.approx(kl)
    posterior = bbnn_uq.BernoulliPosterior({"w": t})
    assert posterior.kl({"w": t0}) == pytest.approx(kl)
    assert posterior.flip_rate() == pytest.approx(flip.mean())


def test_the_learning_rule():
    natural, average = torch.tensor([0.7]).double(), torch.zeros(1).double()
    prior, alpha, beta, rho = torch.tensor([0.2]).double(), 0.1, 0.9, 0.3
    value, m = 0.7, 0.0
    for step, g in enumerate([2.0, -1.0, 0.5], start=1):
        bayesian_learning_rule_(
            natural,
            average,
            torch.tensor([g]).double(),
            step=step,
            lr=alpha,
            momentum=beta,
            kl_weight=rho,
            prior_natural_param=prior,
        )
        m = beta * m + (1 - beta) * g
        value -= alpha * (m / (1 - beta**step) + rho * (value - 0.2))
        assert float(natural) == pytest.approx(value)


def test_the_scale_of_the_relaxation():
    natural, zeta, tau = torch.tensor([0.3]).double(), torch.tensor([0.9]).double(), 0.4
    found = bernoulli.concrete_log_scale(natural, zeta, temperature=tau)
    scale = (1 - math.tanh(0.9) ** 2) / (tau * (1 - math.tanh(0.3) ** 2))
    assert float(found) == pytest.approx(math.log(scale))


def test_drawing_thresholds():
    natural = np.array([-2.0, 0.0, 0.37, 30.0])
    found = thresholds(natural)
    whole = np.rint(2.0**24 / (1 + np.exp(-2 * natural))).astype(int)
    np.testing.assert_array_equal(found.head, np.minimum(whole // 2**16, 255))
    np.testing.assert_array_equal(found.tail, whole - 2**16 * found.head.astype(int))


def test_uncertainty_of_an_input(samples):
    p = samples.mean(axis=0)
    total = -(p * np.log(p)).sum(axis=1)
    expected = -(samples * np.log(samples)).sum(axis=2).mean(axis=0)
    np.testing.assert_allclose(metrics.predictive_entropy(p), total)
    np.testing.assert_allclose(metrics.expected_entropy(samples), expected)
    np.testing.assert_allclose(metrics.mutual_information(samples), total - expected)
    correction = (samples.var(axis=0, ddof=1) / p).sum(axis=1) / (2 * len(samples))
    predictive = bbnn_uq.Predictive.from_samples(samples)
    found = predictive.corrected_mutual_information
    np.testing.assert_allclose(found, total - expected + correction)
    votes = np.eye(3)[samples.argmax(axis=2)].sum(axis=0)
    np.testing.assert_allclose(metrics.variation_ratio(samples), 1 - votes.max(axis=1) / 5)
    zeta = np.log(samples) - np.log(samples).mean(axis=2, keepdims=True)
    np.testing.assert_allclose(
        metrics.logit_variance(samples), zeta.var(axis=0, ddof=1).mean(axis=1)
    )
    pairs = [
        (samples[s] * np.log(samples[s] / samples[t])).sum(axis=1)
        for s in range(5)
        for t in range(5)
        if s != t
    ]
    np.testing.assert_allclose(metrics.pairwise_kl(samples), np.mean(pairs, axis=0))
    z, temperature = 3 * np.log(samples), 2.0
    energy = -(temperature / 5) * np.log(np.exp(z / temperature).sum(axis=2)).sum(axis=0)
    np.testing.assert_allclose(metrics.energy(z, temperature=temperature), energy)
    softer = samples ** (1 / 3) / (samples ** (1 / 3)).sum(axis=2, keepdims=True)
    np.testing.assert_allclose(
        predictive.score("mutual_information@3"), metrics.mutual_information(softer)
    )


def test_calibration(samples, labels):
    probs = samples.mean(axis=0)
    confidence, right = probs.max(axis=1), probs.argmax(axis=1) == labels
    bins = np.ceil(confidence * 10).astype(int)
    each = [(np.mean(bins == b), right[bins == b], confidence[bins == b]) for b in set(bins)]
    gaps = np.array([r.mean() - c.mean() for _, r, c in each])
    shares = np.array([share for share, _, _ in each])
    ece = partial(metrics.ece, probs, labels, num_bins=10)
    assert ece() == pytest.approx((shares * abs(gaps)).sum())
    assert ece(norm="l2") == pytest.approx((shares * gaps**2).sum() ** 0.5)
    assert ece(norm="max") == pytest.approx(abs(gaps).max())
    squares = [
        gap**2 - r.mean() * (1 - r.mean()) / (len(r) - 1) if len(r) > 1 else 0.0
        for gap, (_, r, _) in zip(gaps, each, strict=True)
    ]
    debiased = max((shares * squares).sum(), 0.0) ** 0.5
    assert ece(norm="l2", debias=True) == pytest.approx(debiased)
    by_class = 0.0
    for c in range(3):
        cells = np.ceil(probs[:, c] * 10)
        for b in set(cells):
            inside = cells == b
            gap = (labels[inside] == c).mean() - probs[inside, c].mean()
            by_class += inside.mean() * abs(gap) / 3
    assert metrics.classwise_ece(probs, labels, num_bins=10) == pytest.approx(by_class)
    # The bandwidth that equals its own error; the kernel's mirror images are those near [0, 1].
    h = metrics.smooth_ece(probs, labels)
    t = (np.arange(20_000) + 0.5) / 20_000
    images = [*(2 * k + confidence for k in (-1, 0, 1)), *(2 * k - confidence for k in (0, 1))]
    kernel = sum(norm.pdf(t[:, None], image, h) for image in images)
    assert abs(kernel @ (right - confidence)).mean() / 40 == pytest.approx(h, abs=1e-5)


def test_selective_prediction(samples, labels):
    probs = samples.mean(axis=0)
    wrong = (probs.argmax(axis=1) != labels)[np.argsort(-probs.max(axis=1))].astype(float)
    n, errors = np.arange(1, 41), wrong.cumsum()
    aurc, count = (errors / n).mean(), int(errors[-1])
    least = sum(j / (40 - count + j) for j in range(1, count + 1)) / 40
    assert metrics.aurc(probs, labels) == pytest.approx(aurc)
    assert metrics.excess_aurc(probs, labels) == pytest.approx(aurc - least)
    g = np.append(0.0, errors) / 40
    assert metrics.augrc(probs, labels) == pytest.approx(np.trapezoid(g, np.arange(41) / 40))
    assert metrics.risk_at_coverage(probs, labels, 0.51) == pytest.approx(errors[20] / 21)


def test_ood_detection():
    generator = np.random.default_rng(2)
    u, v = generator.normal(size=60).round(1), generator.normal(1.0, size=50).round(1)
    found = metrics.ood_metrics(u, v)
    above, equal = (v[:, None] > u).mean(), (v[:, None] == u).mean()
    assert found.auroc == pytest.approx(above + equal / 2)
    ts = np.append(np.unique(np.append(u, v)), np.inf)
    error = min(((v < t).mean() + (u >= t).mean()) / 2 for t in ts)
    assert found.detection_error == pytest.approx(error)
    highest = max(t for t in ts if (v >= t).mean() >= 0.95)
    lowest = min(t for t in ts if (u <= t).mean() >= 0.95)
    assert found.fpr95 == pytest.approx((u >= highest).mean())
    assert found.fpr95_in == pytest.approx((v <= lowest).mean())
    k = math.ceil(61 * 0.9 - 1e-9)
    assert metrics.threshold_at_retention(u, 0.9) == np.sort(u)[k - 1]


def test_real_targets():
    mu, sigma, y = 0.3, 0.7, 1.1
    z = (y - mu) / sigma
    closed = sigma * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - math.pi**-0.5)

    def below(t):
        return norm.cdf(t, mu, sigma) ** 2

    def above(t):
        return norm.sf(t, mu, sigma) ** 2

    integral = quad(below, -np.inf, y)[0] + quad(above, y, np.inf)[0]
    assert integral == pytest.approx(closed)
    assert metrics.crps_gaussian([mu], [sigma], [y]) == pytest.approx(closed)
    nll = 0.5 * math.log(2 * math.pi) + math.log(sigma) + 0.5 * z**2
    assert metrics.gaussian_nll([mu], [sigma], [y]) == pytest.approx(nll)
    targets = np.random.default_rng(3).normal(size=30)
    share = (abs(targets) <= norm.ppf((1 + 0.8) / 2)).mean()
    zeros, ones = np.zeros(30), np.ones(30)
    assert metrics.interval_coverage(zeros, ones, targets, 0.8) == pytest.approx(share)


def test_errors_and_tests():
    theta = np.array([0.3, 0.1, 0.4, 0.35])
    spread = math.sqrt(3 / 4 * ((theta - theta.mean()) ** 2).sum())
    assert jackknife_error(theta.tolist()) == pytest.approx(spread)
    p, raised = [0.012, 0.02, 0.03, 0.5], 0.0
    for i, (value, found) in enumerate(zip(p, holm(p), strict=True)):
        raised = max(raised, (4 - i) * value)
        assert found == pytest.approx(min(1.0, raised))


def test_the_conformal_quantile():
    generator = np.random.default_rng(4)
    probs, labels = generator.dirichlet(np.ones(3), 37), generator.integers(3, size=37)
    new = generator.dirichlet(np.ones(3), 50)
    strange = np.sort(1 - probs[np.arange(37), labels])
    for alpha in (0.1, 0.35):
        limit = strange[math.ceil(38 * (1 - alpha) - 1e-9) - 1]
        found = ConformalClassifier("lac").fit(probs, labels).predict_sets(new, alpha)
        np.testing.assert_array_equal(found, 1 - new <= limit)


def test_int8_rounding():
    x = torch.tensor([[0.5, -2.0, 1.3]])
    q, scale = _quantised(x)
    np.testing.assert_array_equal(q, torch.round(127 * x / 2.0))
    assert float(scale) == pytest.approx(2 / 127)


def test_the_citation_file():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()
    assert (cited["cff-version"], cited["type"], cited["license"]) == ("1.2.0", "software", "MIT")
    assert str(cited["version"]) == bbnn_uq.__version__
    stated = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert stated
    assert stated[1] == str(cited["version"])
    assert cited["authors"] == [{"name": "The bbnn-uq maintainers"}]
    (paper,) = cited["references"]
    assert {"type", "title", "authors", "year"} <= paper.keys()
    assert [author["family-names"] for author in paper["authors"]] == ["Meng", "Bachmann", "Khan"]
    assert {"type": "other", "value": "arXiv:2002.10778"} in paper["identifiers"]

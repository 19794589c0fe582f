"""BayesBiNN against a plainly written float64 reference, and its manners as an optimizer."""

import copy
import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from bbnn_uq import BayesBiNN, BernoulliPosterior
from bbnn_uq.optim import bayesian_learning_rule_

together = partial(zip, strict=True)


def plain_step(natural, average, step, gradient_at, draws, *, n, lr, beta, rho, prior, tau):
    """One step of the Bayesian learning rule, one weight at a time, in Python floats.

    ``draws``: for each sample, the weights that were drawn, or the logistic noise δ of relaxed
    ones when there is a temperature.
    """
    total = [0.0] * len(natural)
    for drawn in draws:
        if tau is None:
            w, scale = drawn, [1.0] * len(natural)
        else:
            w = [math.tanh((x + d) / tau) for x, d in together(natural, drawn)]
            # 1 − tanh² = 1 / cosh², which does not cancel.
            scale = [
                math.cosh(x) ** 2 / (tau * math.cosh((x + d) / tau) ** 2)
                for x, d in together(natural, drawn)
            ]
        g = gradient_at(w)
        total = [t + n * s * v / len(draws) for t, s, v in together(total, scale, g)]
    average = [beta * m + (1 - beta) * t for m, t in together(average, total)]
    corrected = [m / (1 - beta**step) for m in average]
    natural = [x - lr * (m + rho * (x - x0)) for x, m, x0 in together(natural, corrected, prior)]
    return natural, average


def upcoming_noise(generator, count):
    """The logistic noise that the next draws from this generator will see."""
    twin = torch.Generator()
    twin.set_state(generator.get_state())
    for _ in range(count):
        uniform = torch.rand(5, generator=twin, dtype=torch.float64)
        yield (0.5 * (uniform.log() - (1 - uniform).log())).tolist()


@pytest.mark.parametrize("estimator", ["straight_through", "concrete"])
@pytest.mark.parametrize("num_samples", [1, 3])
@pytest.mark.parametrize("with_prior", [False, True])
def test_steps_match_the_plain_reference(estimator, num_samples, with_prior):
    torch.manual_seed(0)
    target = torch.tensor([0.3, -1.2, 0.8, 2.0, -0.1], dtype=torch.float64)
    parameter = nn.Parameter(torch.zeros(5, dtype=torch.float64))
    prior = torch.tensor([0.5, -0.5, 0.0, 1.0, 2.0], dtype=torch.float64)
    generator = torch.Generator().manual_seed(7)
    optimizer = BayesBiNN(
        [("w", parameter)], num_data=40, lr=0.05, estimator=estimator, num_samples=num_samples,
        momentum=0.8, kl_weight=0.3, temperature=0.7, init_scale=0.6,
        prior={"w": prior} if with_prior else None, generator=generator,
    )  # fmt: skip

    seen = []

    def closure():
        optimizer.zero_grad()
        seen.append(parameter.tolist())
        loss = ((parameter - target) ** 2).sum() + parameter.prod()
        loss.backward()
        return loss

    def gradient_at(w):
        return [2 * (w[i] - float(target[i])) + math.prod(w[:i] + w[i + 1 :]) for i in range(5)]

    natural = optimizer.natural_param["w"].tolist()
    assert natural == prior.tolist() if with_prior else {abs(x) for x in natural} == {0.6}
    average = [0.0] * 5
    for step in range(1, 6):
        noise = list(upcoming_noise(generator, num_samples))
        seen.clear()
        optimizer.step(closure)
        hard = estimator == "straight_through"
        natural, average = plain_step(
            natural, average, step, gradient_at, seen if hard else noise, n=40, lr=0.05, beta=0.8,
            rho=0.3, prior=prior.tolist() if with_prior else [0.0] * 5, tau=None if hard else 0.7,
        )  # fmt: skip
        assert len(seen) == num_samples
        assert all(abs(abs(x) - 1) < 1e-12 for w in seen for x in w) == hard
        np.testing.assert_allclose(optimizer.natural_param["w"], natural, rtol=1e-9, atol=1e-9)
        assert parameter.tolist() == [1.0 if x >= 0 else -1.0 for x in natural]


def test_rule_without_momentum_is_the_papers_equation_4():
    natural, gradient, prior = torch.randn(3, 6, dtype=torch.float64).unbind()
    expected = (1 - 0.1) * natural - 0.1 * (gradient - prior)
    bayesian_learning_rule_(
        natural, torch.zeros(6, dtype=torch.float64), gradient, step=1, lr=0.1, momentum=0.0,
        kl_weight=1.0, prior_natural_param=prior,
    )  # fmt: skip
    torch.testing.assert_close(natural, expected)


def classifier():
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)
    )
    x, y = torch.randn(30, 6), torch.randint(0, 3, (30,))
    return model, x, y


def make(model, **options):
    names = {"0.weight", "3.weight"}
    bayesbinn = BayesBiNN(
        [(n, p) for n, p in model.named_parameters() if n in names], num_data=30, lr=0.1, **options
    )
    real = [p for n, p in model.named_parameters() if n not in names]
    return bayesbinn, torch.optim.Adam(real, lr=0.01)


def run(model, x, y, bayesbinn, adam, steps):
    def closure():
        bayesbinn.zero_grad()
        adam.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        return loss

    for _ in range(steps):
        bayesbinn.step(closure)
        adam.step()


def test_real_parameters_train_beside_it_and_binary_ones_are_signs():
    model, x, y = classifier()
    before = model[3].bias.detach().clone()
    run(model, x, y, *make(model), steps=5)
    assert not torch.equal(before, model[3].bias)
    assert set(model[0].weight.unique().tolist()) <= {-1.0, 1.0}


def test_state_dict_round_trip_continues_bit_for_bit():
    model, x, y = classifier()
    first = make(model)
    run(model, x, y, *first, steps=4)
    twin = copy.deepcopy(model)
    second = make(twin)
    for ours, theirs in zip(first, second, strict=True):
        theirs.load_state_dict(copy.deepcopy(ours.state_dict()))
    second[0].generator.set_state(first[0].generator.get_state())
    run(model, x, y, *first, steps=4)
    run(twin, x, y, *second, steps=4)
    for name, value in first[0].natural_param.items():
        assert torch.equal(value, second[0].natural_param[name])


@pytest.mark.parametrize(
    "make_scheduler",
    [
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 10),
        lambda o: torch.optim.lr_scheduler.StepLR(o, 1, gamma=0.1),
        lambda o: torch.optim.lr_scheduler.OneCycleLR(o, max_lr=0.1, total_steps=10),
    ],
)
def test_schedulers_change_the_step(make_scheduler):
    model, x, y = classifier()
    bayesbinn, adam = make(model)
    scheduler = make_scheduler(bayesbinn)
    seen = []
    for _ in range(3):
        seen.append(bayesbinn.param_groups[0]["lr"])
        run(model, x, y, bayesbinn, adam, steps=1)
        scheduler.step()
    assert len(set(seen)) == 3
    bayesbinn.param_groups[0]["lr"] = 0.0
    before = bayesbinn.natural_param
    run(model, x, y, bayesbinn, adam, steps=1)
    assert all(torch.equal(before[n], v) for n, v in bayesbinn.natural_param.items())


def test_large_kl_weight_pulls_to_the_prior():
    parameter = nn.Parameter(torch.zeros(3))
    prior = {"w": torch.tensor([0.5, -2.0, 1.0])}
    optimizer = BayesBiNN([("w", parameter)], num_data=1, lr=0.1, kl_weight=1.0, prior=prior)
    optimizer.state[parameter]["natural_param"].zero_()
    for _ in range(200):
        optimizer.step(lambda: (parameter * 0).sum().backward() or torch.zeros(()))
    torch.testing.assert_close(optimizer.natural_param["w"], prior["w"], rtol=1e-4, atol=1e-4)


def test_a_parameter_without_gradient_is_left_alone():
    used, unused = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    optimizer = BayesBiNN([("used", used), ("unused", unused)], num_data=1, lr=0.1)
    before = optimizer.natural_param

    def closure():
        optimizer.zero_grad()
        loss = used.sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    after = optimizer.natural_param
    assert torch.equal(before["unused"], after["unused"])
    assert not torch.equal(before["used"], after["used"])


def test_a_failing_closure_leaves_the_mode_and_the_state():
    parameter = nn.Parameter(torch.zeros(50))
    optimizer = BayesBiNN([("w", parameter)], num_data=1, lr=0.1, init_scale=0.1)
    before = optimizer.natural_param["w"]

    def closure():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        optimizer.step(closure)
    assert torch.equal(optimizer.natural_param["w"], before)
    assert torch.equal(parameter.detach(), before.sign())


def test_the_generator_decides_and_the_global_stream_is_not_touched():
    def natural(seed):
        torch.manual_seed(0)
        parameter = nn.Parameter(torch.zeros(20))
        optimizer = BayesBiNN(
            [("w", parameter)], num_data=5, lr=0.1, init_scale=0.2,
            generator=torch.Generator().manual_seed(seed),
        )  # fmt: skip
        state = torch.get_rng_state()
        for _ in range(3):
            optimizer.step(lambda: (parameter**2 * parameter).sum().backward() or torch.zeros(()))
        assert torch.equal(state, torch.get_rng_state())
        return optimizer.natural_param["w"]

    assert torch.equal(natural(0), natural(0))
    assert not torch.equal(natural(0), natural(1))


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"num_data": 0}, ValueError, "num_data"),
        ({"lr": -1.0}, ValueError, "lr"),
        ({"estimator": "straight"}, ValueError, "did you mean 'straight_through'"),
        ({"momentum": 1.0}, ValueError, "momentum"),
        ({"kl_weight": -0.1}, ValueError, "kl_weight"),
        ({"temperature": 0.0}, ValueError, "temperature"),
        ({"num_samples": 0}, ValueError, "num_samples"),
        ({"init_scale": -1.0}, ValueError, "init_scale"),
        ({"prior": {}}, ValueError, "prior must hold 'w'"),
        ({"init": {"v": torch.zeros(3)}}, ValueError, "init must hold 'w'"),
        ({"prior": {"w": torch.zeros(2)}}, ValueError, r"\(3,\), got \(2,\)"),
        (
            {"prior": BernoulliPosterior({"v": torch.zeros(3)}, {}, {})},
            ValueError,
            "same architecture",
        ),
    ],
)
def test_bad_arguments_are_refused(options, error, match):
    arguments = {"num_data": 10, "lr": 0.1} | options
    with pytest.raises(error, match=match):
        BayesBiNN([("w", nn.Parameter(torch.zeros(3)))], **arguments)


def test_a_closure_that_forgets_backward_is_noticed():
    parameter = nn.Parameter(torch.zeros(3))
    optimizer = BayesBiNN([("w", parameter)], num_data=1, lr=0.1)
    with pytest.raises(ValueError, match="call backward"):
        optimizer.step(lambda: parameter.sum())


def test_names_and_a_closure_are_required():
    with pytest.raises(ValueError, match="named_parameters"):
        BayesBiNN([nn.Parameter(torch.zeros(3))], num_data=1, lr=0.1)
    optimizer = BayesBiNN([("w", nn.Parameter(torch.zeros(3)))], num_data=1, lr=0.1)
    with pytest.raises(ValueError, match="closure"):
        optimizer.step()

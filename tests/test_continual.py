"""Continual learning: task maker, chaining, and what the figures of forgetting mean."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from bbnn_uq import bernoulli, continual, fit, metrics, models, predict, refresh_batchnorm
from bbnn_uq.continual import (
    ContinualResult,
    permute_pixels,
    permuted_pixels,
    pixel_permutations,
    train_tasks,
)

nan = math.nan


def blobs(count, seed):
    """Three classes in 30 features, the same centres for every seed."""
    centres = torch.randn(3, 30, generator=torch.Generator().manual_seed(7))
    y = torch.arange(count) % 3
    noise = torch.randn(count, 30, generator=torch.Generator().manual_seed(seed))
    return 0.6 * centres[y] + noise, y


def permuted_blobs(seed=0, num_tasks=2):
    (x, y), (x_test, y_test) = blobs(300, 0), blobs(300, 1)
    return [
        ((train, y), (test, y_test))
        for train, test in zip(
            permuted_pixels(x, num_tasks, seed=seed),
            permuted_pixels(x_test, num_tasks, seed=seed),
            strict=True,
        )
    ]


def model():
    return models.build("mlp:32x1", (30,), 3)


def same(one, two):
    assert one.keys() == two.keys()
    return all(torch.equal(value, two[name]) for name, value in one.items())


QUICK = {"epochs": 2, "batch_size": 50, "batchnorm_networks": 8}


# Figures of hand-made accuracies


def test_figures_of_three_tasks_by_hand():
    result = ContinualResult((), np.array([[0.9, nan, nan], [0.95, 0.8, nan], [0.5, 0.6, 0.7]]), {})
    np.testing.assert_allclose(result.mean_accuracy, [0.9, 0.875, 0.6])
    np.testing.assert_allclose(result.backward_transfer_by_task, [0.5 - 0.9, 0.6 - 0.8])
    assert result.backward_transfer == pytest.approx(-0.3)
    np.testing.assert_allclose(result.forgetting_by_task, [0.95 - 0.5, 0.8 - 0.6])
    assert result.forgetting == pytest.approx(0.325)


def test_gaining_from_later_tasks_is_negative_forgetting():
    result = ContinualResult((), np.array([[0.5, nan], [0.75, 1.0]]), {})
    assert result.backward_transfer == 0.25
    assert result.forgetting == -0.25


def test_the_best_accuracy_before_the_end_counts_not_the_last():
    accuracy = np.full((3, 3), 0.5)
    accuracy[1, 0] = 0.9  # better after task 1 than when it was learned
    result = ContinualResult((), accuracy, {})
    assert result.forgetting_by_task[0] == pytest.approx(0.4)
    assert result.backward_transfer_by_task[0] == 0.0


def test_one_task_cannot_be_forgotten():
    result = ContinualResult((), np.array([[0.9]]), {})
    assert math.isnan(result.forgetting)
    assert math.isnan(result.backward_transfer)
    assert result.mean_accuracy.tolist() == [0.9]
    assert result.forgetting_by_task.shape == (0,)


@pytest.mark.parametrize("shape", [(2, 3), (0, 0)])
def test_accuracies_are_square(shape):
    with pytest.raises(ValueError, match=r"accuracy must have shape \(T, T\)"):
        ContinualResult((), np.zeros(shape), {})


# Task maker


def test_permutations_are_bijections_and_the_first_is_the_identity():
    permutations = pixel_permutations(784, 5, seed=3)
    assert permutations.shape == (5, 784)
    assert np.array_equal(np.sort(permutations, axis=1), np.tile(np.arange(784), (5, 1)))
    assert np.array_equal(permutations[0], np.arange(784))
    assert len({tuple(row) for row in permutations}) == 5
    # A random permutation leaves one pixel in its place on average, with variance 1.
    fixed = (permutations[1:] == np.arange(784)).sum(axis=1)
    assert fixed.mean() < 1 + 4 / math.sqrt(4)


def test_permutations_depend_on_the_seed_and_not_on_how_many_there_are():
    assert np.array_equal(pixel_permutations(50, 5)[:3], pixel_permutations(50, 3))
    assert not np.array_equal(pixel_permutations(50, 2, seed=1)[1], pixel_permutations(50, 2)[1])


def test_training_and_test_inputs_are_permuted_alike_and_back():
    train, test = torch.rand(4, 1, 5, 6), torch.rand(3, 1, 5, 6)
    permutations = pixel_permutations(30, 3, seed=2)
    pairs = zip(permuted_pixels(train, 3, seed=2), permuted_pixels(test, 3, seed=2), strict=True)
    for (a, b), permutation in zip(pairs, permutations, strict=True):
        for original, permuted in ((train, a), (test, b)):
            assert permuted.shape == original.shape
            assert torch.equal(permuted.flatten(1), original.flatten(1)[:, permutation])
            assert torch.equal(permute_pixels(permuted, np.argsort(permutation)), original)


def test_all_channels_are_permuted_alike():
    grey = np.arange(2 * 12).reshape(2, 1, 3, 4)
    permutation = pixel_permutations(12, 2)[1]
    colour = permute_pixels(np.concatenate([grey, grey + 100], axis=1), permutation)
    assert np.array_equal(colour[:, 0] + 100, colour[:, 1])
    assert np.array_equal(colour[:, :1], permute_pixels(grey, permutation))
    assert np.array_equal(colour[:, 0], permute_pixels(grey[:, 0], permutation))


@pytest.mark.parametrize(
    "x", [np.zeros((2, 6), np.uint8), torch.zeros(2, 3, 2), torch.zeros(2, 5, 3, 2).half()]
)
def test_kind_and_dtype_stay(x):
    for permuted in permuted_pixels(x, 2):
        assert type(permuted) is type(x)
        assert permuted.dtype == x.dtype
        assert permuted.shape == x.shape


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: permuted_pixels([[1, 2]], 2), TypeError, "array or a tensor"),
        (lambda: permuted_pixels(np.zeros(4), 2), ValueError, r"\(N, F\)"),
        (lambda: permuted_pixels(np.zeros((1, 4)), 0), ValueError, "num_tasks"),
        (lambda: permuted_pixels(np.zeros((1, 4)), 2, seed=-1), ValueError, "seed"),
        (lambda: permute_pixels(np.zeros((1, 4)), [0, 1, 2]), ValueError, r"shape \(3,\)"),
        (lambda: permute_pixels(np.zeros((1, 3)), [0, 1, 1]), ValueError, "each of 0 … 2 once"),
    ],
)
def test_bad_permutations_are_refused(call, error, match):
    with pytest.raises(error, match=match):
        call()


# Training in turn


def test_the_chain_forgets_less():
    # Paired over 4 seeds of permutations and training. Seen: differences of .36, .45, .41 and
    # .23, mean .36 with a standard error of .05; wanted is a mean two standard errors lower.
    differences, closer = [], []
    for seed in range(4):
        tasks = permuted_blobs(seed)
        options = QUICK | {"epochs": 10, "seed": seed}
        chained = train_tasks(model(), tasks, **options)
        free = train_tasks(model(), tasks, chain_prior=False, **options)
        assert chained.accuracy.diagonal().min() > 0.9  # it learns both tasks all the same
        assert free.accuracy.diagonal().min() > 0.9
        assert chained.accuracy[0, 0] == free.accuracy[0, 0]
        differences.append(free.forgetting - chained.forgetting)
        first, second = chained.posteriors
        closer.append(free.posteriors[1].kl(first) / second.kl(first))
    assert min(differences) > 0.0
    assert np.mean(differences) > 0.26
    assert min(closer) > 1.5  # seen: 1.74 to 2.04; the prior holds λ near the previous task's


def test_each_task_is_a_fit_with_the_previous_posterior_as_prior():
    tasks, network = permuted_blobs(num_tasks=3), model()
    result = train_tasks(network, tasks, prior_weight=2.0, **QUICK)
    work, previous, seeds = copy.deepcopy(network), None, []
    for number, ((train, _), posterior) in enumerate(zip(tasks, result.posteriors, strict=True)):
        recipe = posterior.metadata["recipe"]
        assert recipe["kl_weight"] == (2.0 if number else 1.0)
        seeds.append(recipe["seed"])
        again = fit(
            work, train, prior=previous, kl_weight=recipe["kl_weight"], seed=seeds[-1], **QUICK
        )
        assert same(again.natural_param, posterior.natural_param)
        assert same(again.real_state, posterior.real_state)
        work.load_state_dict(again.real_state, strict=False)
        previous = again
    assert len(set(seeds)) == 3


def test_a_task_without_information_leaves_the_posterior_where_it_was():
    # The gradient of weights vanishes at inputs of 0, so only the pull towards λ₀ = λ is left.
    x, y = blobs(60, 0)
    network = nn.Linear(30, 3, bias=False)
    blank = ((torch.zeros_like(x), y), (x, y))
    result = train_tasks(network, [((x, y), (x, y)), blank], **QUICK)
    first, second = (posterior.natural_param["weight"] for posterior in result.posteriors)
    torch.testing.assert_close(first, second)
    assert result.accuracy[0, 0] == result.accuracy[1, 0]


def test_figures_are_those_of_predict():
    tasks, network = permuted_blobs(), model()
    result = train_tasks(network, tasks, test_networks=5, **QUICK)
    assert math.isnan(result.accuracy[0, 1])
    for trained, posterior in enumerate(result.posteriors):
        for tested in range(trained + 1):
            x, y = tasks[tested][1]
            probs = predict(network, posterior, x, num_samples=5).probs
            assert result.accuracy[trained, tested] == metrics.accuracy(probs, y)
        for name, natural in posterior.natural_param.items():
            bits = float(bernoulli.entropy(natural.double()).mean()) / math.log(2)
            assert result.weight_entropy[name][trained] == pytest.approx(bits)


def test_batchnorm_of_the_task_under_test():
    tasks, network = permuted_blobs(), model()
    tasks = [tasks[0], *(((x + 3, y), (z + 3, v)) for (x, y), (z, v) in tasks[1:])]
    last = train_tasks(network, tasks, **QUICK)
    own = train_tasks(network, tasks, batchnorm="task", **QUICK)
    assert same(last.posteriors[1].natural_param, own.posteriors[1].natural_param)
    (train, _), (x, y) = tasks[0]
    refreshed = refresh_batchnorm(network, own.posteriors[1], train, num_samples=8)
    probs = predict(network, refreshed, x, num_samples=8).probs
    assert own.accuracy[1, 0] == metrics.accuracy(probs, y)
    assert own.accuracy[1, 0] != last.accuracy[1, 0]


def test_the_users_model_is_left_unchanged():
    network = model().eval()
    before = copy.deepcopy(network.state_dict())
    train_tasks(network, permuted_blobs(), **QUICK)
    assert not network.training
    assert same(before, dict(network.state_dict()))


def test_the_same_seed_gives_the_same_result():
    tasks, network = permuted_blobs(), model()
    one, two, other = (train_tasks(network, tasks, seed=seed, **QUICK) for seed in (4, 4, 5))
    np.testing.assert_array_equal(one.accuracy, two.accuracy)
    for first, second, third in zip(one.posteriors, two.posteriors, other.posteriors, strict=True):
        assert same(first.natural_param, second.natural_param)
        assert not same(first.natural_param, third.natural_param)


def test_arrays_and_iterators_do_as_well():
    tasks, network = permuted_blobs(), model()
    arrays = (
        ((x.numpy(), y.numpy()), (z.numpy(), v.numpy().astype(np.int32)))
        for (x, y), (z, v) in tasks
    )
    one, two = train_tasks(network, arrays, **QUICK), train_tasks(network, tasks, **QUICK)
    np.testing.assert_array_equal(one.accuracy, two.accuracy)


def test_an_interrupted_run_goes_on(tmp_path):
    tasks, network = permuted_blobs(), model()
    epochs = []

    def interrupt(record):
        epochs.append(record["epoch"])
        if len(epochs) == 3:  # in the second task
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_tasks(network, tasks, checkpoint_dir=tmp_path, on_epoch=interrupt, **QUICK)
    # The second task was stopped before its first checkpoint.
    assert [folder.name for folder in tmp_path.iterdir()] == ["task-0"]
    resumed = train_tasks(network, tasks, checkpoint_dir=tmp_path, **QUICK)
    whole = train_tasks(network, tasks, **QUICK)
    assert same(resumed.posteriors[1].natural_param, whole.posteriors[1].natural_param)
    np.testing.assert_array_equal(resumed.accuracy, whole.accuracy)


PAIR = (torch.zeros(4, 30), torch.zeros(4).long())
SMALL = (torch.zeros(4, 5), torch.zeros(4).long())


@pytest.mark.parametrize(
    ("tasks", "options", "error", "match"),
    [
        ([], {}, ValueError, "tasks is empty"),
        (iter([]), {}, ValueError, "tasks is empty"),
        ([PAIR[0]], {}, TypeError, r"tasks\[0\] must be a pair"),
        ([(PAIR, PAIR), (SMALL, SMALL)], {}, ValueError, r"tasks\[1\].*\(5,\).*\(30,\)"),
        ([(PAIR, SMALL)], {}, ValueError, r"tasks\[0\] test data.*\(5,\)"),
        ([(PAIR, torch.utils.data.TensorDataset(*PAIR))], {}, TypeError, "test data.*pair"),
        ([(PAIR, (PAIR[0], PAIR[0]))], {}, TypeError, r"tasks\[0\] test data y.*integer"),
        ([(PAIR, PAIR)], {"batchnorm": "first"}, ValueError, "batchnorm"),
        ([(PAIR, PAIR)], {"test_networks": 0}, ValueError, "test_networks"),
        ([(PAIR, PAIR)], {"kl_weight": -1.0}, ValueError, "kl_weight"),
        ([(PAIR, PAIR)], {"prior_weight": -1.0}, ValueError, "prior_weight"),
        ([(PAIR, PAIR)], {"prior_weight": 1.0, "chain_prior": False}, ValueError, "chain_prior"),
        ([(PAIR, PAIR)], {"prior": None}, TypeError, "prior"),
        ([(PAIR, PAIR)], {"seed": -1}, ValueError, "seed"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_trained(
    monkeypatch, tasks, options, error, match
):
    def trained(*_, seed, prior, kl_weight, checkpoint_dir, **__):
        raise AssertionError("trained")

    monkeypatch.setattr(continual, "fit", trained)
    with pytest.raises(error, match=match):
        train_tasks(model(), tasks, epochs=1, **options)

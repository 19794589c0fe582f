from __future__ import annotations

import dataclasses
import itertools
import json
import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError

from bbnn_uq.conformal import ConformalClassifier, evaluate_sets
from bbnn_uq.conformal._scores import FIT, PREDICT, cumulative_scores, draw_uniforms, threshold

reproducible = settings(derandomize=True, deadline=None, max_examples=40)

SCORES = ["lac", "aps", "raps"]

# Every distribution over 3 classes in steps of 1/8: sums are exact, and there are ties and zeros.
GRID = np.array([(a / 8, b / 8, (8 - a - b) / 8) for a in range(9) for b in range(9 - a)])


def data(seed, num_inputs=200, num_classes=5):
    """Probabilities, and labels from rather softer ones: coverage must not need the right ones."""
    generator = np.random.default_rng(seed)
    probs = generator.dirichlet(np.full(num_classes, 0.4), num_inputs)
    softer = 0.6 * probs + 0.4 / num_classes
    return probs, draw(generator, softer)


def draw(generator, probs):
    below = probs.cumsum(axis=1) < generator.random((len(probs), 1))
    return below.sum(axis=1).clip(max=probs.shape[1] - 1)


def strangeness(score, row, label, uniform, rank_penalty, free_ranks):
    """The docstring's score of one class of one input."""
    if score == "lac":
        return 1.0 - row[label]
    above = sum(p for p in row if p > row[label])
    own = sum(p for p in row if p == row[label])
    value = above + uniform * own
    if score == "raps":
        value += rank_penalty * max(sum(p >= row[label] for p in row) - free_ranks, 0)
    return value


def reference_sets(options, probs, labels, new_probs, alpha):
    """The docstring of the classifier, class by class and input by input."""
    score, conditional = options["score"], options.get("class_conditional", False)
    penalties = options.get("rank_penalty", 0.01), options.get("free_ranks", 5)
    size = probs.shape[1]
    groups = [[] for _ in range(size)]
    for row, label, u in zip(probs, labels, draw_uniforms(probs, 3, FIT), strict=True):
        groups[label if conditional else 0].append(strangeness(score, row, label, u, *penalties))
    sets = np.zeros(new_probs.shape, dtype=bool)
    for i, (row, u) in enumerate(zip(new_probs, draw_uniforms(new_probs, 3, PREDICT), strict=True)):
        for label in range(size):
            scores = sorted(groups[label if conditional else 0])
            rank = math.ceil((len(scores) + 1) * (1 - Fraction(str(alpha))))
            if rank > len(scores):
                sets[i, label] = True
            else:
                own = strangeness(score, row, label, u, *penalties)
                sets[i, label] = own <= scores[rank - 1]
    return sets


# --- thresholds


def test_the_rank_is_exact():
    for n, percent in itertools.product(range(1, 120), range(1, 100)):
        rank = math.ceil((n + 1) * (1 - Fraction(percent, 100)))
        expected = rank if rank <= n else math.inf
        assert threshold(np.arange(1.0, n + 1.0), percent / 100) == expected
    assert threshold(np.arange(1.0, 10.0), 0.7) == 3.0  # not 4: 10 * (1 - 0.7) > 3 in floats
    assert threshold(np.empty(0), 0.5) == math.inf


# --- sets


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"score": "lac"},
        {"score": "aps"},
        {"score": "raps"},
        {"score": "raps", "rank_penalty": 0.25, "free_ranks": 1},
    ],
    ids=str,
)
@reproducible
@given(seed=st.integers(0, 10**6), alpha=st.sampled_from([0.05, 0.1, 0.3, 0.5, 0.9]))
def test_sets_equal_the_plain_reference(options, conditional, seed, alpha):
    options = {**options, "class_conditional": conditional}
    generator = np.random.default_rng(seed)
    rows = GRID[generator.integers(len(GRID), size=40)]
    num_fitted = int(generator.integers(1, 30))
    probs, new_probs = rows[:num_fitted], rows[num_fitted:]
    labels = generator.integers(3, size=num_fitted)
    conformal = ConformalClassifier(seed=3, **options).fit(probs, labels)
    expected = reference_sets(options, probs, labels, new_probs, alpha)
    assert np.array_equal(conformal.predict_sets(new_probs, alpha), expected)


@pytest.mark.parametrize("score", SCORES)
def test_sets_equal_the_plain_reference_without_ties(score):
    (probs, labels), (new_probs, _) = data(1), data(2)
    options = {"score": score}
    sets = ConformalClassifier(seed=3, **options).fit(probs, labels).predict_sets(new_probs, 0.1)
    assert np.array_equal(sets, reference_sets(options, probs, labels, new_probs, 0.1))


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("score", SCORES)
def test_smaller_alpha_only_adds_classes(score, conditional):
    conformal = ConformalClassifier(score, class_conditional=conditional).fit(*data(3))
    sets = [conformal.predict_sets(data(4)[0], alpha) for alpha in (0.8, 0.4, 0.2, 0.1, 0.01)]
    for small, large in itertools.pairwise(sets):
        assert np.all(large >= small)
    assert sets[0].sum() < sets[-1].sum()


@pytest.mark.parametrize("score", SCORES)
def test_a_split_too_small_for_alpha_gives_all_classes(score):
    probs, labels = data(5, num_inputs=18)  # 1/0.05 - 1 = 19
    assert ConformalClassifier(score).fit(probs, labels).predict_sets(data(6)[0], 0.05).all()
    more, numbers = data(5, num_inputs=19)
    assert not ConformalClassifier(score).fit(more, numbers).predict_sets(data(6)[0], 0.05).all()


def test_a_class_with_too_few_labels_is_in_every_set():
    probs, labels = data(7)
    labels[labels == 4] = 3
    few = np.flatnonzero(labels == 2)[8:]
    probs, labels = np.delete(probs, few, axis=0), np.delete(labels, few)
    sets = ConformalClassifier(class_conditional=True).fit(probs, labels).predict_sets(probs, 0.1)
    assert sets[:, [2, 4]].all()  # 8 labels and none, where 9 are needed
    assert not sets[:, [0, 1, 3]].all(axis=0).any()


@pytest.mark.parametrize("score", SCORES)
def test_classes_of_equal_probability_are_treated_alike(score):
    generator = np.random.default_rng(8)
    probs = GRID[generator.integers(len(GRID), size=2000)]
    labels = draw(generator, probs)
    sets = ConformalClassifier(score).fit(probs[:500], labels[:500]).predict_sets(probs[500:], 0.2)
    for i, j in itertools.combinations(range(3), 2):
        tied = probs[500:, i] == probs[500:, j]
        assert tied.sum() > 100
        assert np.array_equal(sets[tied, i], sets[tied, j])


@pytest.mark.parametrize("score", SCORES)
def test_sets_hold_the_most_probable_classes(score):
    conformal = ConformalClassifier(score).fit(*data(9))
    probs, _ = data(10)
    sets = conformal.predict_sets(probs, 0.15)
    least_in = np.where(sets, probs, np.inf).min(axis=1)
    most_out = np.where(sets, -np.inf, probs).max(axis=1)
    assert np.all(least_in > most_out)


def test_raps_without_penalty_is_aps_and_with_it_cuts_the_large_sets():
    fitted, (probs, _) = data(11, 500, 20), data(12, 500, 20)
    aps = ConformalClassifier("aps").fit(*fitted).predict_sets(probs, 0.1)
    without = ConformalClassifier("raps", rank_penalty=0.0).fit(*fitted).predict_sets(probs, 0.1)
    assert np.array_equal(aps, without)
    raps = ConformalClassifier("raps", rank_penalty=0.5).fit(*fitted).predict_sets(probs, 0.1)
    assert raps.sum(axis=1).std() < 0.5 * aps.sum(axis=1).std()


@pytest.mark.parametrize("score", SCORES)
def test_any_kind_of_array_will_do_and_none_is_changed(score):
    generator = np.random.default_rng(13)
    probs = GRID[generator.integers(len(GRID), size=60)]
    labels = draw(generator, probs)
    before = probs.copy()
    expected = ConformalClassifier(score).fit(probs, labels).predict_sets(probs, 0.1)
    assert np.array_equal(probs, before)
    for other in (
        probs.astype(np.float16),
        torch.tensor(probs).float(),
        probs.tolist(),
        -0.0 + probs,
    ):
        for numbers in (labels.astype(np.uint8), torch.tensor(labels), labels.tolist()):
            sets = ConformalClassifier(score).fit(other, numbers).predict_sets(other, 0.1)
            assert np.array_equal(sets, expected)


# --- randomness


def test_uniforms_are_uniform_and_independent_of_each_other():
    probs, _ = data(14, num_inputs=20_000)
    uniforms = draw_uniforms(probs, 0, FIT)
    assert uniforms.min() >= 0.0
    assert uniforms.max() < 1.0
    others = [draw_uniforms(probs, 1, FIT), draw_uniforms(probs, 0, PREDICT)]
    others.append(draw_uniforms(np.nextafter(probs, 1.0), 0, FIT))  # the last bit counts
    others.append(draw_uniforms(probs[:, ::-1], 0, FIT))
    same = np.tile(probs[:1], (20_000, 1))  # equal rows are counted
    for sample in (uniforms, *others, draw_uniforms(same, 0, FIT)):
        assert scipy.stats.kstest(sample, "uniform").pvalue > 1e-3
    for other in (*others, np.roll(uniforms, 1)):
        # 4 standard errors of the correlation of independent samples.
        assert abs(np.corrcoef(uniforms, other)[0, 1]) < 4.0 / math.sqrt(20_000)
    table = np.histogram2d(uniforms, others[0], bins=8)[0]
    assert scipy.stats.chisquare(table.ravel()).pvalue > 1e-3


@pytest.mark.parametrize("score", SCORES)
def test_sets_do_not_depend_on_order_or_batch(score):
    fitted, (probs, _) = data(15), data(16, num_inputs=120_000)  # more than one block
    sets = ConformalClassifier(score).fit(*fitted).predict_sets(probs, 0.1)
    order = np.random.default_rng(0).permutation(len(fitted[1]))
    again = ConformalClassifier(score).fit(fitted[0][order], fitted[1][order])
    assert np.array_equal(again.predict_sets(probs[::-1], 0.1)[::-1], sets)
    assert np.array_equal(again.predict_sets(probs[77:78], 0.1), sets[77:78])
    if score != "lac":
        other = ConformalClassifier(score, seed=1).fit(*fitted).predict_sets(probs, 0.1)
        assert not np.array_equal(other, sets)


def test_minus_zero_is_zero():
    probs = np.array([[1.0, 0.0], [0.5, 0.5]])
    signed = np.array([[1.0, -0.0], [0.5, 0.5]])
    assert np.array_equal(draw_uniforms(probs, 0, FIT), draw_uniforms(signed, 0, FIT))


def test_the_score_of_a_true_label_is_uniform_however_many_ties():
    generator = np.random.default_rng(17)
    probs = np.array([[0.25, 0.25, 0.5], [0.125, 0.75, 0.125], [1.0, 0.0, 0.0], [0.4, 0.3, 0.3]])
    rows = probs[generator.integers(4, size=20_000)]
    labels = draw(generator, rows)
    scores = cumulative_scores(rows, draw_uniforms(rows, 0, FIT), 0.0, 0)
    label_scores = scores[np.arange(len(rows)), labels]
    assert scipy.stats.kstest(label_scores, "uniform").pvalue > 1e-3


# --- the promise

NUM_SPLITS, NUM_FITTED, NUM_TESTED = 1000, 40, 60


def pool_of(kind):
    """A population to split: one with distinct rows, one with 4 rows only, full of ties."""
    if kind == "continuous":
        return data(18, num_inputs=200_000)
    generator = np.random.default_rng(19)
    rows = np.array([[0.25, 0.25, 0.5], [0.0, 0.75, 0.25], [1.0, 0.0, 0.0], [0.4, 0.3, 0.3]])
    probs = rows[generator.integers(4, size=200_000)]
    return probs, draw(generator, 0.8 * probs + 0.2 / 3)


def coverage_of_splits(pool, alpha, **options):
    """For each split, how much of what was tested the sets held, minus what theory expects."""
    probs, labels = pool
    generator = np.random.default_rng(20)
    gaps = []
    for split in range(NUM_SPLITS):
        chosen = generator.integers(len(labels), size=NUM_FITTED + NUM_TESTED)
        fitted, tested = chosen[:NUM_FITTED], chosen[NUM_FITTED:]
        conformal = ConformalClassifier(seed=split, **options).fit(probs[fitted], labels[fitted])
        held = conformal.predict_sets(probs[tested], alpha)[np.arange(NUM_TESTED), labels[tested]]
        counts = np.array([NUM_FITTED])
        if options.get("class_conditional"):
            counts = np.bincount(labels[fitted], minlength=probs.shape[1])
        # The k-th of n scores exceeds a new one with probability k / (n + 1).
        expected = np.minimum(np.ceil((counts + 1) * (1 - alpha) - 1e-9) / (counts + 1), 1.0)
        stratum = labels[tested] if len(counts) > 1 else 0
        gaps.append((held - expected[stratum]).mean())
    return np.array(gaps)


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("score", SCORES)
def test_coverage_over_splits_is_what_theory_says(score, conditional):
    gaps = coverage_of_splits(
        pool_of("continuous"), 0.2, score=score, class_conditional=conditional
    )
    # Without ties the coverage is known exactly; 4 standard errors over 1,000 splits.
    assert abs(gaps.mean()) < 4.0 * gaps.std() / math.sqrt(NUM_SPLITS)
    assert 4.0 * gaps.std() / math.sqrt(NUM_SPLITS) < 0.012


@pytest.mark.parametrize("score", SCORES)
def test_coverage_over_splits_is_kept_with_ties(score):
    gaps = coverage_of_splits(pool_of("tied"), 0.2, score=score)
    error = gaps.std() / math.sqrt(NUM_SPLITS)
    assert gaps.mean() > -4.0 * error
    if score != "lac":
        # Random scores have ties only between classes of probability 0, as 5 % of labels
        # have, and these are above the threshold.
        assert abs(gaps.mean()) < 4.0 * error


def test_lac_holds_exactly_as_many_as_promised_when_each_input_is_left_out_in_turn():
    for alpha, seed in itertools.product((0.05, 0.1, 0.25, 0.5), range(3)):
        probs, labels = data(seed, num_inputs=40)
        held = 0
        for i in range(40):
            rest = np.arange(40) != i
            conformal = ConformalClassifier().fit(probs[rest], labels[rest])
            held += conformal.predict_sets(probs[i : i + 1], alpha)[0, labels[i]]
        assert held == math.ceil(40 * (1 - Fraction(str(alpha))))


# --- stored, and misused


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("score", SCORES)
def test_stored_as_json_and_read_again_it_does_the_same(score, conditional):
    options = {"rank_penalty": 0.1, "free_ranks": 1} if score == "raps" else {}
    probs, labels = data(21)
    labels[labels == 3] = 0  # a class without labels
    conformal = ConformalClassifier(score, 5, class_conditional=conditional, **options)
    values = json.loads(json.dumps(conformal.fit(probs, labels).to_dict(), allow_nan=False))
    again = ConformalClassifier.from_dict(values)
    assert np.array_equal(again.predict_sets(probs, 0.1), conformal.predict_sets(probs, 0.1))
    assert again.to_dict() == values
    with pytest.raises(ValueError, match="of method 'conformal_classifier'"):
        ConformalClassifier.from_dict({**values, "method": "temperature_scaling"})
    with pytest.raises(ValueError, match="lists, got 2"):
        ConformalClassifier.from_dict({**values, "scores": [[1.0], [2.0]]})
    for key in set(values) - {"method", "rank_penalty", "free_ranks"}:
        with pytest.raises(ValueError, match=f"lack '{key}'"):
            ConformalClassifier.from_dict({k: v for k, v in values.items() if k != key})


def test_misuse_says_what_to_do():
    with pytest.raises(ValueError, match="did you mean 'aps'"):
        ConformalClassifier("apps")
    with pytest.raises(ValueError, match="belong to score='raps'"):
        ConformalClassifier("aps", free_ranks=2)
    with pytest.raises(ValueError, match="rank_penalty must be at least 0"):
        ConformalClassifier("raps", rank_penalty=-0.1)
    with pytest.raises(TypeError, match="seed must be an integer"):
        ConformalClassifier(seed=0.5)
    conformal = ConformalClassifier()
    for use in (lambda: conformal.predict_sets([[0.5, 0.5]], 0.1), conformal.to_dict):
        with pytest.raises(NotFittedError, match="not fitted"):
            use()
    conformal.fit(*data(22))
    with pytest.raises(ValueError, match="probs must have 5 classes"):
        conformal.predict_sets([[0.5, 0.5]], 0.1)
    for alpha in (0.0, 1.0, -0.1, math.nan):
        with pytest.raises(ValueError, match="alpha must"):
            conformal.predict_sets(data(22)[0], alpha)
    with pytest.raises(ValueError, match="labels must have shape"):
        conformal.fit(data(22)[0], [0])


# --- evaluation


@st.composite
def set_data(draw_from):
    num_inputs, num_classes = draw_from(st.integers(1, 12)), draw_from(st.integers(2, 4))
    bits = st.lists(st.booleans(), min_size=num_classes, max_size=num_classes)
    sets = draw_from(st.lists(bits, min_size=num_inputs, max_size=num_inputs))
    numbers = st.integers(0, num_classes - 1)
    return sets, draw_from(st.lists(numbers, min_size=num_inputs, max_size=num_inputs))


@reproducible
@given(set_data(), st.sampled_from([0.5, 0.95]))
def test_the_report_equals_a_plain_count(case, level):
    sets, labels = case
    n, num_classes = len(labels), len(sets[0])
    held = [row[label] for row, label in zip(sets, labels, strict=True)]
    sizes = [sum(row) for row in sets]
    report = evaluate_sets(sets, labels, confidence_level=level)
    assert report.num_inputs == n
    assert report.coverage == pytest.approx(sum(held) / n)
    exact = scipy.stats.binomtest(sum(held), n).proportion_ci(level, method="exact")
    assert (report.coverage_low, report.coverage_high) == pytest.approx((exact.low, exact.high))
    assert report.mean_size == pytest.approx(sum(sizes) / n)
    assert report.empty_share == pytest.approx(sizes.count(0) / n)
    assert report.singleton_share == pytest.approx(sizes.count(1) / n)
    assert report.class_counts == tuple(labels.count(c) for c in range(num_classes))
    for c in range(num_classes):
        of_class = [h for h, label in zip(held, labels, strict=True) if label == c]
        expected = sum(of_class) / len(of_class) if of_class else math.nan
        assert report.class_coverage[c] == pytest.approx(expected, nan_ok=True)
        assert (report.to_dict()["class_coverage"][c] is None) == (not of_class)
    assert report.sizes == tuple(sorted(set(sizes)))
    for size, count, coverage in zip(
        report.sizes, report.size_counts, report.size_coverage, strict=True
    ):
        of_size = [h for h, s in zip(held, sizes, strict=True) if s == size]
        assert (count, coverage) == (len(of_size), pytest.approx(sum(of_size) / len(of_size)))
    tensors = evaluate_sets(torch.tensor(sets), torch.tensor(labels), confidence_level=level)
    assert tensors.to_dict() == report.to_dict()


def test_the_report_is_frozen_and_json():
    report = evaluate_sets([[True, False, False], [False, False, False]], [0, 1])
    values = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert values["coverage"] == {
        "value": 0.5,
        "low": pytest.approx(0.012579, abs=1e-6),
        "high": pytest.approx(0.987421, abs=1e-6),
    }
    assert values["class_coverage"] == [1.0, 0.0, None]
    assert values["sizes"] == [0, 1]
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.coverage = 1.0


def test_sets_are_checked():
    with pytest.raises(TypeError, match="sets must be boolean"):
        evaluate_sets([[0.9, 0.1]], [0])
    with pytest.raises(ValueError, match=r"sets must have shape \(N, C\)"):
        evaluate_sets([True, False], [0, 1])
    with pytest.raises(ValueError, match="at least 1 input"):
        evaluate_sets(np.empty((0, 3), dtype=bool), [])
    with pytest.raises(ValueError, match="labels must lie in"):
        evaluate_sets([[True, False]], [2])


@pytest.mark.parametrize(
    "change",
    [
        {"scores": [[]]},
        {"scores": [None]},
        {"scores": [[[1.0]]]},
        {"scores": 5},
        {"class_conditional": "x"},
        {"rank_penalty": None},
        {"num_classes": None},
    ],
)
def test_damaged_values_are_refused(change):
    probs = np.random.default_rng(0).dirichlet(np.ones(3), 20)
    values = ConformalClassifier("raps").fit(probs, [0, 1] * 10).to_dict()
    with pytest.raises(ValueError, match=r"pass what to_dict|must|scores is empty"):
        ConformalClassifier.from_dict(values | change)
    with pytest.raises(ValueError, match="must be of method"):
        ConformalClassifier.from_dict([])
    with pytest.raises(TypeError, match="class_conditional must be True or False"):
        ConformalClassifier(class_conditional="no")

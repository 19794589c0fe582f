"""compare: differences and tests against closed forms, pairing by inputs, and what it writes."""

import json
import math
import re
import shutil
from html.parser import HTMLParser
from itertools import product

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from bbnn_uq import Predictive, evaluate, metrics, pages, report
from bbnn_uq.comparison import compare, default_names, measures
from bbnn_uq.comparison.significance import (
    difference_of_means,
    holm,
    mcnemar,
    mean_of_runs,
    paired_t_test,
)

N, M, CLASSES = 60, 40, 3
RESAMPLES = 60
SCORES = ["entropy", "margin"]
EVIL = "a|b<script>alert(1)</script>*x*\n# `h` | c |\r\n\x1b[31m\u202e\"'&amp;"


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch):
    monkeypatch.setattr(measures, "NUM_RESAMPLES", RESAMPLES)


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


LABELS = np.random.default_rng(0).integers(CLASSES, size=N)


def predicted(seed, scale=1.0, count=N, labels=LABELS, noise=0.7):
    """A predictive whose inputs are the same for every seed, and whose model is not."""
    shared = np.random.default_rng(count).normal(size=(count, CLASSES))
    logits = shared + noise * np.random.default_rng(seed).normal(size=(count, CLASSES))
    if labels is not None:
        logits[np.arange(count), labels] += scale
    return Predictive.from_probs(softmax(logits))


def write(folder, inside, labels=LABELS, *, ood=None, dataset="inside", **options):
    """The evaluation folder of predictives, without its figures."""
    inside.metadata["dataset"] = dataset
    options.setdefault("scores", SCORES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "draw_figures", lambda *_, **__: None)
        patch.setattr(pages, "report_page", lambda **_: "")
        patch.setattr(report, "NUM_RESAMPLES", RESAMPLES)
        return evaluate(inside, labels, ood=ood, **options).save(folder)


def run_of(folder, seed, scale=1.0, **options):
    ood = {
        "near": predicted(seed + 100, count=M, labels=None),
        "far|out": predicted(seed + 200, count=M + 1, labels=None, noise=2.0),
    }
    return write(folder, predicted(seed, scale), ood=ood, **options)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """a/0 … b/2: three training seeds of two recipes."""
    folder = tmp_path_factory.mktemp("runs")
    for name, scale, first in (("a", 1.0, 0), ("b", 1.6, 10)):
        for seed in range(3):
            run_of(folder / name / str(seed), first + seed, scale)
    return folder


@pytest.fixture(scope="module")
def pair(runs):
    return [runs / "a" / "0", runs / "b" / "0"]


def report_of(folder):
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def change_report(folder, change):
    facts = report_of(folder)
    change(facts)
    (folder / "report.json").write_text(json.dumps(facts), encoding="utf-8")


def arrays_of(folder):
    with np.load(folder / "scores.npz") as file:
        return dict(file)


def row_of(comparison, method, metric, *, dataset=None, score=None, choice="named"):
    (row,) = (
        row
        for row in comparison.rows
        if (row.method, row.metric, row.choice) == (method, metric, choice)
        and dataset in (None, row.dataset)
        and score in (None, row.score)
    )
    return row


# --- tests of no difference ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alone", "other_alone", "p_value"),
    [(3, 1, 10 / 16), (5, 0, 2 / 32), (0, 1, 1.0), (2, 2, 1.0), (0, 0, 1.0)],
)
def test_mcnemar_counts_coins(alone, other_alone, p_value):
    right = np.array([True] * alone + [False] * other_alone + [True, False])
    other = np.array([False] * alone + [True] * other_alone + [True, False])
    assert mcnemar(right, other) == pytest.approx(p_value)
    assert mcnemar(other, right) == pytest.approx(p_value)


def test_mcnemar_is_the_share_of_flips_that_are_as_uneven():
    differences = np.array([1, 1, 1, 1, 1, -1, 0, 0])
    signs = np.array(list(product([-1, 1], repeat=6)))
    share = np.mean(np.abs(signs.sum(axis=1)) >= abs(differences.sum()))
    assert mcnemar(differences == 1, differences == -1) == pytest.approx(share)


def test_paired_t_test_is_students():
    values = np.random.default_rng(3).normal(0.3, 1.0, size=12)
    t = values.mean() / (values.std(ddof=1) / math.sqrt(12))
    assert paired_t_test(values) == pytest.approx(2 * stats.t.sf(abs(t), 11))


@pytest.mark.parametrize(
    ("differences", "p_value"),
    [
        ([0.0, 0.0], 1.0),
        ([0.0], 1.0),
        ([0.5], None),
        ([0.1, 0.1, 0.1], None),
        ([0.5, math.inf], None),
        ([0.5, math.nan], None),
    ],
)
def test_paired_t_test_where_there_is_no_spread(differences, p_value):
    assert paired_t_test(np.array(differences)) == p_value


def test_the_mean_of_runs_has_students_interval():
    values = [0.91, 0.93, 0.88, 0.92]
    interval, error = mean_of_runs(values, 0.9)
    assert error == pytest.approx(stats.sem(values))
    wanted = stats.t.interval(0.9, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (interval.low, interval.high) == pytest.approx(wanted)
    infinite, error = mean_of_runs([1.0, math.inf], 0.9)
    assert infinite.value == math.inf
    assert all(map(math.isnan, (infinite.low, infinite.high, error)))


def test_the_difference_of_means_is_welchs():
    a, b = np.array([0.91, 0.93, 0.88, 0.92]), np.array([0.85, 0.9, 0.8])
    parts = a.var(ddof=1) / 4, b.var(ddof=1) / 3
    error = math.sqrt(sum(parts))
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 3 + parts[1] ** 2 / 2)
    gap = a.mean() - b.mean()
    interval, p_value = difference_of_means(a.tolist(), b.tolist(), 0.8)
    assert p_value == pytest.approx(2 * stats.t.sf(gap / error, freedom))
    wanted = stats.t.interval(0.8, freedom, loc=gap, scale=error)
    assert (interval.value, interval.low, interval.high) == pytest.approx((gap, *wanted))


def test_groups_without_spread():
    assert difference_of_means([0.3] * 3, [0.1 + 0.2] * 2, 0.95)[1] == 1.0
    same, p_value = difference_of_means([0.5] * 3, [0.25] * 3, 0.95)
    assert (same.value, same.low, same.high, p_value) == (0.25, 0.25, 0.25, None)
    infinite, p_value = difference_of_means([1.0, math.inf], [1.0, 2.0], 0.95)
    assert (infinite.value, p_value) == (math.inf, None)
    both, p_value = difference_of_means([1.0, math.inf], [1.0, math.inf], 0.95)
    assert math.isnan(both.value)
    assert p_value is None


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.02, 0.02], [0.04, 0.04]),
        ([0.6, 0.9, 0.5], [1.0, 1.0, 1.0]),
        ([0.04], [0.04]),
        ([], []),
    ],
)
def test_holm_by_hand(p_values, adjusted):
    assert holm(p_values) == pytest.approx(adjusted)


# --- single runs on the same inputs ----------------------------------------------------------


def test_a_run_against_itself_differs_in_nothing(tmp_path, pair):
    comparison = compare({"first": pair[0], "again": pair[0]})
    differences = [row.difference for row in comparison.rows if row.difference]
    assert {d.value for d in differences} == {0.0}
    tested = [d for d in differences if d.test]
    assert len(tested) == comparison.num_tests == 3 + 2 * 2
    assert {(d.p_value, d.p_adjusted) for d in tested} == {(1.0, 1.0)}
    assert not any(row["best"] for row in comparison.to_dict()["rows"])
    assert comparison.findings() == ["again against first: no difference shown in 7 of 7 tests."]


def test_values_are_those_of_the_reports(pair):
    comparison = compare(pair)
    for name, folder in zip(("a/0", "b/0"), pair, strict=True):
        facts = report_of(folder)
        for metric in metrics.default_metrics():
            row = row_of(comparison, name, metric)
            assert row.value.value == pytest.approx(facts["id"][metric]["value"], abs=1e-12)
        for set_, score in product(facts["ood"], SCORES):
            for metric, stated in facts["ood"][set_]["scores"][score].items():
                row = row_of(comparison, name, metric, dataset=set_, score=score)
                assert row.value.value == pytest.approx(stated["value"], abs=1e-12)
                assert row.n == facts["ood"][set_]["n"]


def test_intervals_are_those_of_the_report_for_the_same_settings(pair):
    comparison = compare(pair, scores=["entropy"])
    facts = report_of(pair[1])
    for row, stated in (
        (row_of(comparison, "b/0", "ece"), facts["id"]["ece"]),
        (
            row_of(comparison, "b/0", "fpr95", dataset="near"),
            facts["ood"]["near"]["scores"]["entropy"]["fpr95"],
        ),
    ):
        ends = (row.value.low, row.value.high)
        assert ends == pytest.approx((stated["low"], stated["high"]), abs=1e-12)


def test_differences_on_the_id_set_are_paired(pair):
    comparison = compare(pair, num_bins=7, confidence_level=0.8, seed=3)
    base, other = (arrays_of(folder)["id/probs"] for folder in pair)
    wanted = metrics.paired_differences(
        other, base, LABELS, num_bins=7, num_resamples=RESAMPLES, confidence_level=0.8, seed=3
    )
    for metric, interval in wanted.items():
        found = row_of(comparison, "b/0", metric).difference
        assert (found.value, found.low, found.high) == (interval.value, interval.low, interval.high)
        assert row_of(comparison, "a/0", metric).difference is None


def test_p_values_on_the_id_set(pair):
    comparison = compare(pair)
    base, other = (arrays_of(folder)["id/probs"] for folder in pair)
    right, base_right = ((p.argmax(axis=1) == LABELS) for p in (other, base))
    gained, lost = (right & ~base_right).sum(), (base_right & ~right).sum()
    accuracy = row_of(comparison, "b/0", "accuracy").difference
    assert accuracy.p_value == pytest.approx(stats.binomtest(gained, gained + lost).pvalue)
    assert accuracy.test == "McNemar"
    onehot = np.eye(CLASSES)[LABELS]
    for metric, loss in (
        ("nll", lambda p: -np.log((p * onehot).sum(axis=1))),
        ("brier", lambda p: ((p - onehot) ** 2).sum(axis=1)),
    ):
        found = row_of(comparison, "b/0", metric).difference
        assert found.p_value == pytest.approx(stats.ttest_rel(loss(other), loss(base)).pvalue)
        assert found.test == "paired t"
    untested = {row.metric for row in comparison.rows if row.difference and not row.difference.test}
    assert not untested & {"accuracy", "nll", "brier"}
    assert {"ece", "aurc", "fpr95"} <= untested


@pytest.mark.parametrize(("set_", "safe"), [("near", "near"), ("far|out", "far_out")])
def test_differences_of_detection_are_delongs(pair, set_, safe):
    comparison = compare(pair)
    base, other = (arrays_of(folder) for folder in pair)
    for score in SCORES:
        sides = [f"id/{score}", f"ood/{safe}/{score}"]
        wanted = metrics.compare_ood_scores(
            *(other[side] for side in sides),
            *(base[side] for side in sides),
            num_resamples=RESAMPLES,
        )
        for metric, paired in wanted.items():
            found = row_of(comparison, "b/0", metric, dataset=set_, score=score).difference
            assert (found.value, found.low, found.high) == (paired.value, paired.low, paired.high)
            assert found.p_value == (paired.p_value if metric == "auroc" else None)


def test_holms_correction_is_over_every_test(runs):
    comparison = compare([runs / "a" / "0", runs / "b" / "0", runs / "b" / "1"])
    tested = [row.difference for row in comparison.rows if row.difference and row.difference.test]
    assert len(tested) == comparison.num_tests == 2 * (3 + 4)
    for each in tested:
        # p̃ = max over p_j ≤ p of (number of p_k ≥ p_j) p_j, as ranks say it without ties.
        steps = [
            sum(other.p_value >= p for other in tested) * p
            for p in (other.p_value for other in tested)
            if p <= each.p_value
        ]
        assert each.p_adjusted == pytest.approx(min(1.0, max(steps)))
    assert compare([runs / "a" / "0", runs / "b" / "0"], scores=["entropy"]).num_tests == 3 + 2


def test_the_error_over_networks_of_a_difference_is_of_both(tmp_path, pair):
    for name, folder, error in zip("ab", pair, (0.003, 0.004), strict=True):
        shutil.copytree(folder, tmp_path / name)
        change_report(
            tmp_path / name,
            lambda facts, error=error: [
                facts["id"][metric].update(mc_error=error) for metric in ("nll", "ece")
            ],
        )
    folders = [tmp_path / name for name in "ab"]
    comparison = compare(folders)
    for metric in ("nll", "ece"):
        assert row_of(comparison, "b", metric).mc_error == 0.004
        assert row_of(comparison, "b", metric).difference.mc_error == pytest.approx(0.005)
    assert row_of(comparison, "b", "brier").difference.mc_error is None
    other_bins = compare(folders, num_bins=10)
    assert row_of(other_bins, "b", "nll").difference.mc_error == pytest.approx(0.005)
    assert row_of(other_bins, "b", "ece").mc_error is None
    assert row_of(other_bins, "b", "ece").difference.mc_error is None


def test_reports_with_other_bins_and_levels_are_computed_anew(tmp_path, pair):
    run_of(tmp_path / "b0", 10, 1.6, num_bins=5, confidence_level=0.5)
    comparison = compare({"a": pair[0], "b": pair[1]})
    again = compare({"a": pair[0], "b": tmp_path / "b0"})
    assert not any("another number of bins" in note for note in comparison.notes)
    assert any("another number of bins" in note for note in again.notes)
    assert row_of(again, "b", "ece").value == row_of(comparison, "b", "ece").value
    assert row_of(again, "b", "ece").difference.value == (
        row_of(comparison, "b", "ece").difference.value
    )


def test_infinite_losses_leave_no_test(tmp_path, pair):
    probs = arrays_of(pair[1])["id/probs"].copy()
    probs[0] = np.eye(CLASSES)[(LABELS[0] + 1) % CLASSES]
    write(tmp_path / "sure", Predictive.from_probs(probs), scores=["entropy"])
    comparison = compare([pair[0], tmp_path / "sure"], scores=["entropy"])
    row = row_of(comparison, "sure", "nll")
    assert row.value.value == row.difference.value == math.inf
    assert (row.difference.p_value, row.difference.test) == (None, None)
    assert "infinite loss" in row.difference.note
    assert row_of(comparison, "sure", "brier").difference.p_value is not None
    (entry,) = (
        row
        for row in comparison.to_dict()["rows"]
        if (row["method"], row["metric"]) == ("sure", "nll")
    )
    assert (entry["value"], entry["difference"]) == (None, None)
    assert "| sure | ∞ | +∞" in comparison.to_markdown().replace("| ∞ | ∞", "| ∞ | +∞")
    both = compare({"x": tmp_path / "sure", "y": tmp_path / "sure"})
    assert math.isnan(row_of(both, "y", "nll").difference.value)
    assert "infinite loss" in both.to_markdown()


def test_one_ood_input_has_no_spread(tmp_path):
    for seed in (0, 1):
        single = {"one": predicted(seed + 5, count=1, labels=None)}
        write(tmp_path / str(seed), predicted(seed), ood=single, scores=["entropy"])
    row = row_of(compare([tmp_path / "0", tmp_path / "1"]), "1", "auroc")
    assert row.difference.note == "a single input"
    assert math.isnan(row.difference.low)
    values = [
        roc_auc_score(np.r_[np.zeros(N), 1], np.r_[arrays["id/entropy"], arrays["ood/one/entropy"]])
        for arrays in map(arrays_of, (tmp_path / "0", tmp_path / "1"))
    ]
    assert row.difference.value == pytest.approx(values[1] - values[0])


# --- which inputs are the same ---------------------------------------------------------------


def stated(folder, print_, where="id"):
    def change(facts):
        entry = facts["id"] if where == "id" else facts["ood"][where]
        entry["fingerprint"] = print_

    change_report(folder, change)


def shuffled(folder, seed):
    """The same inputs in another order."""
    order = np.random.default_rng(0).permutation(N)
    inside = predicted(seed)
    write(folder, Predictive.from_probs(inside.probs[order]), LABELS[order])


@pytest.mark.parametrize("where", ["labels", "count", "classes", "fingerprint"])
def test_other_inputs_are_not_compared(tmp_path, where):
    write(tmp_path / "a", predicted(0))
    reasons = {
        "labels": "other labels",
        "count": "50 inputs against 60",
        "classes": "2 classes against 3",
        "fingerprint": "other inputs",
    }
    if where == "labels":
        shuffled(tmp_path / "b", 1)
    elif where == "count":
        write(tmp_path / "b", predicted(1, count=50, labels=LABELS[:50]), LABELS[:50])
    elif where == "classes":
        write(tmp_path / "b", Predictive.from_probs(np.full((N, 2), 0.5)), np.zeros(N, int),
              scores=["entropy"])  # fmt: skip
    else:
        write(tmp_path / "b", predicted(1))
        stated(tmp_path / "a", "0f")
        stated(tmp_path / "b", "1e")
    comparison = compare([tmp_path / "a", tmp_path / "b"])
    for row in comparison.rows:
        if row.method == "b":
            assert row.difference.note == reasons[where]
            assert not row.same_inputs
            assert math.isnan(row.difference.value)
            assert not math.isnan(row.value.value)
    assert comparison.num_tests == 0
    assert not any(row["best"] for row in comparison.to_dict()["rows"])
    assert comparison.methods["b"]["other_inputs"] == reasons[where]
    assert any(reasons[where] in note for note in comparison.notes)
    assert comparison.findings() == [f"b against a: no test ({reasons[where]})."]


def test_what_is_not_comparable_is_not_the_best(tmp_path, runs):
    folders = {"a": runs / "a" / "0", "b": runs / "b" / "0"}
    for name, folder in folders.items():
        shutil.copytree(folder, tmp_path / name)
        stated(tmp_path / name, "0f")
    shutil.copytree(folders["b"], tmp_path / "elsewhere")
    stated(tmp_path / "elsewhere", "1e")
    comparison = compare([tmp_path / name for name in ("a", "b", "elsewhere")])
    best = comparison.to_frame().query("metric == 'accuracy'").set_index("method")
    assert best.value["b"] == best.value["elsewhere"] > best.value["a"]
    assert best.best.to_dict() == {"a": False, "b": True, "elsewhere": False}


def test_labels_decide_where_a_fingerprint_is_missing(tmp_path):
    for seed, name in enumerate("ab"):
        write(tmp_path / name, predicted(seed))
    stated(tmp_path / "a", "0f")
    comparison = compare([tmp_path / "a", tmp_path / "b"])
    assert comparison.num_tests == 3
    assert any("no fingerprint" in note for note in comparison.notes)
    stated(tmp_path / "b", "0f")
    again = compare([tmp_path / "a", tmp_path / "b"])
    assert again.num_tests == 3
    assert not any("no fingerprint" in note for note in again.notes)


@pytest.mark.parametrize("where", ["count", "fingerprint", "ID set", "absent"])
def test_an_ood_set_has_to_be_the_same_too(tmp_path, where):
    near = {"near": predicted(7, count=M, labels=None)}
    write(tmp_path / "a", predicted(0), ood=near)
    other = {"near": predicted(8, count=M, labels=None)}
    wanted = "other inputs"
    if where == "count":
        other = {"near": predicted(8, count=M - 1, labels=None)}
        wanted = f"{M - 1} inputs against {M}"
    elif where == "absent":
        other = {"far": predicted(8, count=M, labels=None)}
        wanted = "the baseline was not evaluated against this set"
    write(tmp_path / "b", predicted(1), ood=other)
    if where == "fingerprint":
        stated(tmp_path / "a", "0f", "near")
        stated(tmp_path / "b", "1e", "near")
    elif where == "ID set":
        stated(tmp_path / "a", "0f")
        stated(tmp_path / "b", "1e")
        wanted = "ID set: other inputs"
    comparison = compare([tmp_path / "a", tmp_path / "b"])
    rows = [row for row in comparison.rows if row.method == "b" and row.kind == "ood"]
    assert len(rows) == 2 * 6 + 1
    assert {row.difference.note for row in rows} == {wanted}
    assert all(math.isnan(row.difference.value) for row in rows)
    assert not any(row.same_inputs for row in rows)
    assert comparison.num_tests == (0 if where == "ID set" else 3)


# --- scores ----------------------------------------------------------------------------------


OFFERED = {"x": ["entropy", "confidence"], "y": ["margin", "entropy"]}


@pytest.fixture(scope="module")
def other_scores(tmp_path_factory):
    """Two runs that were asked for different scores."""
    folder = tmp_path_factory.mktemp("scores")
    for seed, (name, scores) in enumerate(OFFERED.items()):
        near = {"near": predicted(seed + 5, count=M, labels=None)}
        write(folder / name, predicted(seed), ood=near, scores=scores)
    return folder


def test_first_named_scores_are_compared_where_they_differ(other_scores):
    comparison = compare([other_scores / "x", other_scores / "y"])
    base, other = (arrays_of(other_scores / name) for name in ("x", "y"))
    wanted = metrics.compare_ood_scores(
        other["id/margin"],
        other["ood/near/margin"],
        base["id/entropy"],
        base["ood/near/entropy"],
        num_resamples=RESAMPLES,
    )
    row = row_of(comparison, "y", "auroc", choice="first")
    assert (row.score, row.baseline_score) == ("margin", "entropy")
    assert row.difference.value == wanted["auroc"].value
    assert row.difference.p_value == wanted["auroc"].p_value
    alone = row_of(comparison, "y", "auroc", score="margin")
    assert alone.difference.note == "the baseline has no such score"
    assert alone.same_inputs
    shared = row_of(comparison, "y", "auroc", score="entropy")
    assert shared.difference.test == "DeLong"
    assert comparison.num_tests == 3 + 2


def test_the_best_score_of_each_has_no_test(other_scores):
    comparison = compare([other_scores / "x", other_scores / "y"])
    aurocs = {
        name: {
            score: row_of(comparison, name, "auroc", score=score).value.value for score in scores
        }
        for name, scores in OFFERED.items()
    }
    for name, values in aurocs.items():
        best = row_of(comparison, name, "auroc", choice="best")
        assert best.score == max(values, key=values.get)
        assert best.value.value == max(values.values())
    difference = row_of(comparison, "y", "auroc", choice="best").difference
    wanted = max(aurocs["y"].values()) - max(aurocs["x"].values())
    assert difference.value == pytest.approx(wanted)
    assert (difference.test, difference.p_value) == (None, None)
    assert math.isnan(difference.low)


def test_scores_can_be_named_beforehand(other_scores):
    folders = [other_scores / "x", other_scores / "y"]
    comparison = compare(folders, scores=["entropy"])
    assert {row.score for row in comparison.rows} == {None, "entropy"}
    assert {row.choice for row in comparison.rows} == {"named"}
    order = compare(folders, scores=["entropy", "margin"])
    assert {row.choice for row in order.rows} == {"named", "best"}  # entropy is first for both


# --- groups of runs --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def groups(runs):
    return {name: [runs / name / str(seed) for seed in range(3)] for name in "ab"}


def test_groups_have_means_over_runs_and_welchs_test(groups):
    comparison = compare(groups, scores=["entropy"], confidence_level=0.9)
    values = {
        name: [report_of(folder)["id"]["nll"]["value"] for folder in folders]
        for name, folders in groups.items()
    }
    row = row_of(comparison, "b", "nll")
    assert (row.num_runs, row.mc_error) == (3, None)
    assert row.value.value == pytest.approx(np.mean(values["b"]))
    assert row.std_error == pytest.approx(stats.sem(values["b"]))
    found, p_value = difference_of_means(values["b"], values["a"], 0.9)
    ends = (row.difference.value, row.difference.low, row.difference.high)
    assert ends == pytest.approx((found.value, found.low, found.high))
    assert row.difference.p_value == pytest.approx(p_value)
    assert row.difference.test == "Welch t"
    assert row_of(comparison, "b", "ece").difference.test is None
    aurocs = [
        report_of(folder)["ood"]["near"]["scores"]["entropy"]["auroc"]["value"]
        for folder in groups["b"]
    ]
    near = row_of(comparison, "b", "auroc", dataset="near")
    assert near.value.value == pytest.approx(np.mean(aurocs))
    assert comparison.num_tests == 3 + 2
    assert any("nothing of other inputs" in note for note in comparison.notes)
    assert not any("another training seed" in note for note in comparison.notes)


def test_a_single_run_against_a_group_has_no_test(groups):
    comparison = compare({"a": groups["a"], "one": groups["b"][0]}, scores=["entropy"])
    mean = np.mean([report_of(folder)["id"]["accuracy"]["value"] for folder in groups["a"]])
    value = report_of(groups["b"][0])["id"]["accuracy"]["value"]
    difference = row_of(comparison, "one", "accuracy").difference
    assert difference.value == pytest.approx(value - mean)
    assert math.isnan(difference.low)
    assert difference.note == "a single run against several"
    assert comparison.num_tests == 0
    assert "no test (a single run against several)" in comparison.findings()[0]


def test_the_runs_of_a_group_are_on_the_same_inputs(tmp_path, groups):
    shuffled(tmp_path / "s", 5)
    with pytest.raises(ValueError, match=r"runs of 'a' were not measured on the same 'inside'"):
        compare({"a": [groups["a"][0], tmp_path / "s"], "b": groups["b"]})


def test_a_seed_that_counts_twice_is_pointed_out(tmp_path, groups):
    shutil.copytree(groups["a"][0], tmp_path / "copy")
    comparison = compare({"a": [groups["a"][0], tmp_path / "copy"], "b": groups["b"]})
    assert not any("predict the same" in note for note in compare(groups).notes)
    assert any("Two runs of a predict the same" in note for note in comparison.notes)


# --- what was given --------------------------------------------------------------------------


def test_the_baseline_is_the_first_unless_named(runs):
    folders = [runs / "a" / "0", runs / "b" / "0"]
    assert compare(folders, scores=["entropy"]).baseline == "a/0"
    for baseline in ("b/0", folders[1], str(folders[1])):
        comparison = compare(folders, scores=["entropy"], baseline=baseline)
        assert (comparison.baseline, list(comparison.methods)) == ("b/0", ["b/0", "a/0"])
    with pytest.raises(ValueError, match=r"baseline must be one of a/0, b/0, got 'b/1'; did you"):
        compare(folders, baseline="b/1")


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["x/a", "y/b"], ["a", "b"]),
        (["x/r", "y/r"], ["x/r", "y/r"]),
        (["x/r", "y/r", "y/s"], ["x/r", "y/r", "s"]),
        (["r", "r/r"], [None, "r/r"]),
        (["a/"], ["a"]),
    ],
)
def test_runs_are_named_by_what_tells_them_apart(folders, names):
    found = default_names(folders)
    assert len(set(found)) == len(found)
    for name, wanted in zip(found, names, strict=True):
        assert wanted in (None, name)


def damaged(folder, what):
    """Break one thing in an evaluation folder."""
    arrays = arrays_of(folder)
    file = folder / "report.json"
    if what == "no report":
        file.unlink()
    elif what == "no scores":
        (folder / "scores.npz").unlink()
    elif what == "cut report":
        file.write_bytes(file.read_bytes()[:-20])
    elif what == "binary report":
        file.write_bytes(b"\xff\xfe\x00")
    elif what == "deep report":
        file.write_text("[" * 100_000)
    elif what == "list":
        file.write_text("[1]")
    elif what == "newer":
        change_report(folder, lambda r: r.update(schema=2))
    elif what == "foreign":
        file.write_text('{"schema": 1, "id": {"dataset": 3, "n": 1}, "ood": {}}')
    elif what == "half a character":
        change_report(folder, lambda r: r["id"].update(dataset="\ud800"))
    elif what == "cut scores":
        whole = (folder / "scores.npz").read_bytes()
        (folder / "scores.npz").write_bytes(whole[: len(whole) // 2])
    else:
        if what == "of another run":
            arrays["id/probs"] = np.roll(arrays["id/probs"], 1, axis=1)
        elif what == "objects":
            arrays["id/entropy"] = np.array([{}] * N, dtype=object)
        elif what == "NaN":
            arrays["ood/near/entropy"][0] = np.nan
        elif what == "logits":
            arrays["id/probs"] = 5 * arrays["id/probs"]
        elif what == "short":
            arrays["ood/near/entropy"] = arrays["ood/near/entropy"][:-1]
        elif what == "fewer inputs":
            arrays["id/probs"] = arrays["id/probs"][:-1]
        else:
            del arrays[what]
        np.savez(folder / "scores.npz", **arrays, allow_pickle=True)


FAULTS = {
    "no report": r"holds no report\.json; bbnn-uq ood and evaluate write one",
    "no scores": r"without scores\.npz; evaluate again",
    "cut report": r"report\.json' is damaged or is no JSON",
    "binary report": r"report\.json' is damaged or is no JSON",
    "deep report": r"report\.json' is damaged or is no JSON",
    "half a character": r"report\.json' is damaged or is no JSON",
    "list": r"has schema None, and this version reads 1",
    "newer": r"has schema 2, and this version reads 1; .* install",
    "foreign": r"is no report of bbnn-uq",
    "cut scores": r"scores\.npz' cannot be used: .* evaluate again",
    "of another run": r"are not of one report: they have accuracy",
    "objects": r"scores\.npz' cannot be used: .*Python objects",
    "NaN": r"ood/near/entropy must be finite, got 1 NaN",
    "logits": r"id/probs must lie in \[0, 1\]",
    "short": r"ood/near/entropy has 39 entries, the report 40",
    "fewer inputs": r"id/probs has 59 inputs, the report 60",
    "id/labels": r"lacks 'id/labels'",
    "ood/near/entropy": r"lacks 'ood/near/entropy'",
    "id/entropy": r"lacks 'id/entropy'",
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_folder_that_is_damaged_is_named(tmp_path, pair, what):
    shutil.copytree(pair[1], tmp_path / "broken")
    damaged(tmp_path / "broken", what)
    with pytest.raises(ValueError, match=FAULTS[what]) as fault:
        compare([pair[0], tmp_path / "broken"])
    assert "broken" in str(fault.value)
    assert "\n" not in str(fault.value)


def test_folders_that_are_not_there(tmp_path, runs):
    (tmp_path / "file").write_text("x")
    for folder, message in (
        (runs / "a" / "00", r"there is no folder .*; did you mean .*'"),
        (tmp_path / "xyz" / "w", r"there is no folder .*; check the path"),
        (tmp_path / "file", r"is a file; name the evaluation folder"),
    ):
        with pytest.raises(ValueError, match=message):
            compare([runs / "a" / "1", folder])


@pytest.mark.parametrize(
    ("folders", "options", "error", "message"),
    [
        (["a/0"], {}, ValueError, "names 1 run or group; comparing takes at least two"),
        ([], {}, ValueError, "at least two"),
        ("a/0", {}, ValueError, "at least two"),
        (["a/0", "a/../a/0"], {}, ValueError, "given twice"),
        ({"x": ["a/0", "a/0"], "y": "b/0"}, {}, ValueError, "given twice"),
        ({"x": [], "y": "b/0"}, {}, ValueError, r"folders\['x'\] names no folder"),
        ({"": "a/0", "y": "b/0"}, {}, ValueError, r"give each a name"),
        (3, {}, TypeError, "list of evaluation folders or a dictionary"),
        ([1, 2], {}, TypeError, "paths of evaluation folders, got int; Report.save"),
        ({1: "a/0", "y": "b/0"}, {}, TypeError, "paths"),
        (["a/0", "b/0"], {"baseline": 3}, ValueError, "baseline must be one of"),
        (["a/0", "b/0"], {"scores": "entropy"}, TypeError, "scores must be a list of names"),
        (["a/0", "b/0"], {"scores": []}, ValueError, "scores is empty; name at least one of"),
        (["a/0", "b/0"], {"scores": ["entrpy"]}, ValueError, "did you mean 'entropy'"),
        (["a/0", "b/0"], {"num_bins": 0}, ValueError, "num_bins must be at least 1"),
        (["a/0", "b/0"], {"confidence_level": 95}, ValueError, "between 0 and 1"),
        (["a/0", "b/0"], {"seed": -1}, ValueError, "seed must be at least 0"),
    ],
)
def test_arguments_that_are_wrong_are_named(runs, monkeypatch, folders, options, error, message):
    monkeypatch.chdir(runs)
    with pytest.raises(error, match=message):
        compare(folders, **options)


def test_scores_of_reports_without_ood_sets(tmp_path):
    for seed, name in enumerate("ab"):
        write(tmp_path / name, predicted(seed))
    folders = [tmp_path / "a", tmp_path / "b"]
    assert {row.kind for row in compare(folders).rows} == {"id"}
    with pytest.raises(ValueError, match="none of the reports is against an OOD set"):
        compare(folders, scores=["entropy"])


# --- what it gives ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A comparison whose every name came from somebody who meant harm."""
    folder = tmp_path_factory.mktemp("hostile")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measures, "NUM_RESAMPLES", RESAMPLES)
        for seed, name in enumerate("ab"):
            far = {EVIL: predicted(seed + 9, count=M, labels=None)}
            write(folder / name, predicted(seed, 1.0 + seed), ood=far, dataset=EVIL)
            change_report(folder / name, lambda r: r["inference"].update(method=EVIL, seed="x"))
        return compare({EVIL: folder / "a", "$x^$ " + EVIL: folder / "b"})


def test_the_same_arguments_give_the_same_text(pair):
    first, second = (compare(pair, scores=["entropy"]) for _ in range(2))
    assert first.to_json() == second.to_json()
    assert first.to_html() == second.to_html()
    other = compare(pair, scores=["entropy"], seed=1)
    assert first.to_json() != other.to_json()


def test_json_is_json_and_the_frame_is_its_rows(pair):
    comparison = compare(pair)
    values = json.loads(
        comparison.to_json(), parse_constant=lambda name: pytest.fail(f"{name} in the JSON")
    )
    assert values == comparison.to_dict()
    assert values["schema"] == 1
    frame = comparison.to_frame()
    assert len(frame) == len(values["rows"]) == len(comparison.rows)
    for record, row in zip(frame.to_dict("records"), values["rows"], strict=True):
        assert record.keys() == row.keys()
        for key, value in row.items():
            same = record[key] == value
            assert same or (value is None and (record[key] is None or record[key] != record[key]))
    aurocs = frame.query("metric == 'auroc' and choice == 'named'")
    assert aurocs.pivot_table(
        index="method", columns=["dataset", "score"], values="value"
    ).shape == (
        2,
        4,
    )


def test_the_best_is_the_best_in_its_own_direction(pair):
    rows = compare(pair).to_frame().query("choice == 'named'")
    for (metric, *_), group in rows.groupby(["metric", "dataset", "score"], dropna=False):
        high = metric in ("accuracy", "auroc", "aupr_out", "aupr_in")
        wanted = group.value.max() if high else group.value.min()
        if group.value.nunique() > 1:
            assert (group.best == (group.value == wanted)).all(), metric


def test_findings_say_which_way(tmp_path):
    strong = np.random.default_rng(1).random(N) < 0.9
    for name, right in (("good", strong), ("bad", ~strong)):
        predictions = np.where(right, LABELS, (LABELS + 1) % CLASSES)
        probs = np.full((N, CLASSES), 0.05) + 0.85 * np.eye(CLASSES)[predictions]
        write(tmp_path / name, Predictive.from_probs(probs), scores=["entropy"])
    (text,) = compare([tmp_path / "bad", tmp_path / "good"]).findings()
    assert text.startswith("good against bad: better in accuracy (+0.")
    assert "NLL (nats) (−" in text
    assert "worse" not in text
    (text,) = compare([tmp_path / "good", tmp_path / "bad"]).findings()
    assert text.startswith("bad against good: worse in accuracy (−0.")
    assert "better" not in text


def markdown_tables(text):
    found, rows = [], []
    for line in [*text.split("\n"), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif rows:
            found.append(rows)
            rows = []
    return found


def test_markdown_shows_the_numbers(pair):
    comparison = compare(pair)
    inside, near, far = markdown_tables(comparison.to_markdown())
    assert [row[0] for row in inside[2:] if row[0]] == [
        "accuracy", "NLL (nats)", "Brier score", "ECE", "AURC"
    ]  # fmt: skip
    accuracy = inside[3]
    assert accuracy[1] == "b/0"
    difference = row_of(comparison, "b/0", "accuracy").difference
    assert accuracy[2] == f"**{row_of(comparison, 'b/0', 'accuracy').value.value:.4f}**"
    assert "*" not in inside[2][2]
    assert accuracy[3].startswith(f"{difference.value:+.4f} [".replace("-", "−"))
    assert float(accuracy[4].strip("<")) == pytest.approx(difference.p_adjusted, abs=6e-4)
    assert len(near) == len(far) == 2 + 2 * 2 + 2


def test_hostile_names_do_no_harm_in_markdown(hostile):
    text = hostile.to_markdown()
    for table in markdown_tables(text):
        assert {len(row) for row in table} == {5}
    for line in text.splitlines():
        bare = re.sub(r"\\.", "", line)
        assert not re.search(r"[<>`\x1b\u202e]", bare.replace("<0.001", "")), line
        assert line.isprintable()


class Elements(HTMLParser):
    """Elements that open and close as they should, and their texts."""

    VOID = ("meta", "link", "br", "path", "use", "rect", "circle", "line")

    def __init__(self, text):
        super().__init__()
        self.open, self.names, self.attributes, self.texts = [], set(), [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.names.add(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_hostile_names_do_no_harm_in_notebooks(hostile):
    found = Elements(hostile._repr_html_())
    assert not found.names & {"script", "style", "img", "link"}
    assert not any(name.startswith("on") for _, name, _ in found.attributes)
    assert any("<script>alert(1)</script>" in text for text in found.texts)
    assert "★" in hostile._repr_html_()


def test_hostile_names_do_no_harm_on_the_page(hostile):
    text = hostile.to_html()
    found = Elements(text)
    assert text.count("<script") == 1  # that of every page
    assert not any(name.startswith("on") for _, name, _ in found.attributes)
    outside = [
        (tag, name, value)
        for tag, name, value in found.attributes
        if name in ("src", "href", "xlink:href") and not str(value).startswith(("#", "data:"))
    ]
    assert not outside
    assert "\u202e" not in text
    assert "\x1b" not in text


def test_the_page_states_each_difference_in_words(pair):
    comparison = compare(pair, scores=["entropy"])
    labels = [
        value
        for _, name, value in Elements(comparison.to_html()).attributes
        if name == "aria-label"
    ]
    difference = row_of(comparison, "b/0", "nll").difference
    said = f"Differences in NLL (nats) to a/0: b/0 {difference.value:+.4f}".replace("-", "−")
    assert any(label.startswith(said) for label in labels)


def test_the_page_of_runs_without_a_common_input(tmp_path):
    write(tmp_path / "a", predicted(0), ood={"x": predicted(3, count=M, labels=None)})
    shuffled(tmp_path / "b", 1)
    text = compare([tmp_path / "a", tmp_path / "b"]).to_html()
    assert "Not on the same inputs" in text
    assert "<figure" not in text


def test_save_writes_three_files(tmp_path, pair):
    comparison = compare(pair, scores=["entropy"])
    assert comparison.save(tmp_path / "deep" / "er") == tmp_path / "deep" / "er"
    files = {
        file.name: file.read_text(encoding="utf-8") for file in (tmp_path / "deep/er").iterdir()
    }
    assert files == {
        "comparison.json": comparison.to_json(),
        "comparison.md": comparison.to_markdown(),
        "comparison.html": comparison.to_html(),
    }
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match=r"cannot create the folder .*choose another place"):
        comparison.save(tmp_path / "file")


def test_a_fault_while_drawing_leaves_the_earlier_comparison(tmp_path, pair, monkeypatch):
    comparison = compare(pair, scores=["entropy"])
    comparison.save(tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def fail(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr(pages, "comparison_page", fail)
    with pytest.raises(KeyboardInterrupt):
        compare(pair[::-1], scores=["entropy"]).save(tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_reprs_are_short(pair):
    assert repr(compare(pair, scores=["entropy"])) == "Comparison('b/0' with 'a/0': 42 rows)"

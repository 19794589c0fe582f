"""evaluate and Report: numbers against scikit-learn, the schema, and the evaluation folder."""

import json
import re

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from sklearn.metrics import accuracy_score, average_precision_score, log_loss, roc_auc_score
from sklearn.metrics import roc_curve as sklearn_roc_curve

from bbnn_uq import Predictive, evaluate, metrics, pages
from bbnn_uq.predictive_sums import PredictiveAccumulator
from bbnn_uq.verdict import METRIC_NAMES

NETWORKS, CLASSES = 4, 3
SCORES = ("entropy", "mutual_information", "mutual_information@3", "confidence", "energy")
ID_METRICS = (
    "accuracy", "nll", "brier", "ece", "aurc", "classwise_ece", "smooth_ece", "augrc", "excess_aurc"
)  # fmt: skip
OOD_METRICS = ("auroc", "aupr_out", "aupr_in", "fpr95", "fpr95_in", "detection_error")
POSTERIOR = {
    "num_weights": 12,
    "bits_per_weight": 0.5,
    "flip_rate": 0.1,
    "collapsed": False,
    "layers": {"w": {}},
}


def sampled(
    num_inputs, *, scale, seed, labels=None, networks=NETWORKS, num_groups=1, keep=False, **changes
):
    """The predictive of networks whose logits are noise, plus ``scale`` at the label."""
    generator = torch.Generator().manual_seed(seed)
    accumulator = PredictiveAccumulator(
        num_inputs, CLASSES, (1.0, 3.0), torch.device("cpu"), num_groups=num_groups
    )
    samples = []
    for network in range(networks):
        logits = torch.randn(num_inputs, CLASSES, generator=generator, dtype=torch.float64)
        if labels is not None:
            logits[torch.arange(num_inputs), torch.as_tensor(labels)] += scale
        accumulator.add(slice(0, num_inputs), range(network, network + 1), logits[None])
        samples.append(accumulator.sample(logits).numpy())
    facts = {
        "dataset": "inside",
        "posterior": POSTERIOR,
        "precision": "float64",
        "device": "cpu",
        "seconds": 0.5,
    }
    options = {"num_samples": networks, "seed": 7, "method": "monte_carlo", "metadata": facts}
    options["samples"] = np.stack(samples) if keep else None
    return accumulator.finish(**(options | changes))


@pytest.fixture(scope="module")
def labels():
    return np.random.default_rng(0).integers(CLASSES, size=80)


@pytest.fixture(scope="module")
def inside(labels):
    return sampled(80, scale=1.0, seed=0, labels=labels)


@pytest.fixture(scope="module")
def report(inside, labels):
    near = sampled(50, scale=1.0, seed=1, labels=labels[:50])
    far = sampled(30, scale=0.0, seed=2)
    mode = sampled(80, scale=1.5, seed=3, labels=labels, networks=1, method="mode")
    return evaluate(inside, labels, ood={"near": near, "far.away": far}, mode=mode, scores=SCORES)


@pytest.fixture(scope="module")
def folder(report, tmp_path_factory):
    return report.save(tmp_path_factory.mktemp("report"))


@pytest.fixture
def no_page(monkeypatch):
    """Reports without the page's figures, for tests of what happens to the files."""
    monkeypatch.setattr(pages, "report_page", lambda **parts: "page")


def expected_calibration_error(probs, labels, num_bins=15):
    """Bin by bin, as the definition reads: bins (a, b], 0 in the first."""
    return binned_gap(probs.max(axis=1), probs.argmax(axis=1) == labels, num_bins)


def binned_gap(confidence, correct, num_bins):
    total = 0.0
    for b in range(num_bins):
        low, high = b / num_bins, (b + 1) / num_bins
        chosen = (confidence > low) & (confidence <= high)
        if chosen.any():
            total += chosen.mean() * abs(correct[chosen].mean() - confidence[chosen].mean())
    return total


def area_under_risk_coverage(probs, labels):
    """Mean over n of the error rate among the n most confident; the inputs have no ties."""
    wrong = (probs.argmax(axis=1) != labels)[np.argsort(-probs.max(axis=1))]
    return np.mean([wrong[:n].mean() for n in range(1, len(wrong) + 1)])


def ood_numbers(id_scores, ood_scores):
    is_ood = np.r_[np.zeros(len(id_scores)), np.ones(len(ood_scores))]
    scores = np.r_[id_scores, ood_scores]
    fpr, tpr, _ = sklearn_roc_curve(is_ood, scores, drop_intermediate=False)
    fpr_in, tpr_in, _ = sklearn_roc_curve(1 - is_ood, -scores, drop_intermediate=False)
    return {
        "auroc": roc_auc_score(is_ood, scores),
        "aupr_out": average_precision_score(is_ood, scores),
        "aupr_in": average_precision_score(1 - is_ood, -scores),
        "fpr95": fpr[np.argmax(tpr >= 0.95 - 1e-12)],
        "fpr95_in": fpr_in[np.argmax(tpr_in >= 0.95 - 1e-12)],
        "detection_error": ((1 - tpr + fpr) / 2).min(),
    }


def intervals_of(value, path=""):
    """Every {"value", "low", "high"} of a report, by its path."""
    if isinstance(value, dict):
        if set(value) >= {"value", "low", "high"}:
            yield path, value
        else:
            for key, item in value.items():
                yield from intervals_of(item, f"{path}/{key}")


# --- numbers ---------------------------------------------------------------------------------


def test_scores_npz_and_scikit_learn_give_every_number_of_the_report(folder):
    numbers = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    with np.load(folder / "scores.npz", allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    probs, labels = arrays["id/probs"], arrays["id/labels"]
    one_hot = np.eye(CLASSES)[labels]
    top = probs.argmax(axis=1)
    errors, n = (top != labels).sum(), len(labels)
    accuracy = 1 - errors / n
    failures = roc_auc_score(top != labels, -probs.max(axis=1))
    aurc = area_under_risk_coverage(probs, labels)
    wanted = {
        "accuracy": accuracy_score(labels, top),
        "nll": log_loss(labels, probs, labels=range(CLASSES)),
        "brier": ((probs - one_hot) ** 2).sum(axis=1).mean(),
        "ece": expected_calibration_error(probs, labels),
        "aurc": aurc,
        "classwise_ece": np.mean(
            [binned_gap(probs[:, c], labels == c, num_bins=15) for c in range(CLASSES)]
        ),
        "smooth_ece": metrics.smooth_ece(probs, labels),
        "augrc": (1 - failures) * accuracy * (1 - accuracy) + (1 - accuracy) ** 2 / 2,
        "excess_aurc": aurc - sum(j / (n - errors + j) for j in range(1, errors + 1)) / n,
    }
    assert set(wanted) == set(ID_METRICS)
    assert {name: numbers["id"][name]["value"] for name in wanted} == pytest.approx(
        wanted, abs=1e-12
    )
    assert numbers["id"]["n"] == len(labels)
    compared = 0
    for name, entry in numbers["ood"].items():
        for score, found in entry["scores"].items():
            id_scores, ood_scores = arrays[f"id/{score}"], arrays[f"ood/{name}/{score}"]
            assert entry["n"] == len(ood_scores)
            values = {metric: interval["value"] for metric, interval in found.items()}
            assert values == pytest.approx(ood_numbers(id_scores, ood_scores), abs=1e-12)
            compared += 1
    assert compared == 2 * len(SCORES)
    assert len(arrays) == 2 + 3 * len(SCORES)


def test_scores_are_the_predictives_own(folder, inside):
    with np.load(folder / "scores.npz") as file:
        entropy = -(inside.probs * np.log(inside.probs)).sum(axis=1)
        np.testing.assert_allclose(file["id/entropy"], entropy, atol=1e-12)
        np.testing.assert_array_equal(file["id/confidence"], -inside.probs.max(axis=1))


def test_every_interval_holds_its_value_and_has_width(report):
    found = dict(intervals_of(report.to_dict()))
    in_all = len(ID_METRICS) * 3 + 2 * len(SCORES) * len(OOD_METRICS)  # and mode, and difference
    assert len(found) == in_all
    for path, interval in found.items():
        assert interval["low"] <= interval["value"] <= interval["high"], path
    # A percentile interval of 80 inputs is about ±1.96 standard errors wide.
    accuracy = found["/id/accuracy"]
    error = np.sqrt(accuracy["value"] * (1 - accuracy["value"]) / 80)
    assert accuracy["high"] - accuracy["low"] == pytest.approx(3.92 * error, rel=0.2)


def test_a_higher_level_gives_wider_intervals_and_is_stated(inside, labels):
    narrow = evaluate(inside, labels, confidence_level=0.5).to_dict()
    wide = evaluate(inside, labels, confidence_level=0.99).to_dict()
    for metric in ("accuracy", "nll", "brier", "aurc"):
        a, b = narrow["id"][metric], wide["id"][metric]
        assert b["low"] < a["low"] <= a["high"] < b["high"]
    assert wide["settings"]["confidence_level"] == 0.99
    assert "99 % bootstrap" in evaluate(inside, labels, confidence_level=0.99).to_markdown()


def test_same_seed_gives_the_same_report_and_another_seed_other_intervals(inside, labels):
    first, second = (evaluate(inside, labels, seed=3).to_json() for _ in range(2))
    assert first == second
    other = evaluate(inside, labels, seed=4).to_dict()["id"]["nll"]
    mine = json.loads(first)["id"]["nll"]
    assert other["value"] == mine["value"]
    assert other["low"] != mine["low"]


def test_num_bins_is_that_of_the_ece_and_of_the_curve(inside, labels):
    report = evaluate(inside, labels, num_bins=7)
    wanted = expected_calibration_error(inside.probs, labels, 7)
    assert report.to_dict()["id"]["ece"]["value"] == pytest.approx(wanted, abs=1e-12)
    assert wanted != pytest.approx(expected_calibration_error(inside.probs, labels), abs=1e-3)
    assert len(report.reliability.count) == 7
    assert report.reliability.count.sum() == 80
    assert report.to_dict()["settings"]["num_bins"] == 7


def test_mode_differences_are_mean_minus_mode(labels):
    """A sharper, better "mean" against a flat "mode": its NLL is lower, its accuracy not."""
    good = sampled(80, scale=6.0, seed=0, labels=labels)
    bad = sampled(80, scale=0.0, seed=1, networks=1, method="mode")
    report = evaluate(good, labels, mode=bad).to_dict()
    difference = report["mode"]["mean_minus_mode"]
    assert difference["nll"]["high"] < 0 < difference["accuracy"]["low"]
    for metric in ID_METRICS:
        gap = report["id"][metric]["value"] - report["mode"][metric]["value"]
        assert difference[metric]["value"] == pytest.approx(gap, abs=1e-12)


def test_scores_of_the_report_default_to_all_that_the_predictive_has(inside, labels):
    far = sampled(30, scale=0.0, seed=2)
    found = evaluate(inside, labels, ood={"far": far}).to_dict()["ood"]["far"]["scores"]
    plain = {
        "entropy",
        "mutual_information",
        "expected_entropy",
        "confidence",
        "margin",
        "variation_ratio",
        "logit_variance",
        "pairwise_kl",
        "energy",
        "max_logit",
    }
    softened = {f"{name}@3" for name in plain - {"variation_ratio", "logit_variance", "max_logit"}}
    assert set(found) == plain | softened


def test_default_scores_are_those_that_every_set_has(labels):
    """Networks that give a class exactly 0 diverge without bound from those that do not."""
    samples = np.random.default_rng(0).dirichlet(np.ones(CLASSES), (NETWORKS, 80))
    zeros = samples[:, :30].copy()
    zeros[0, 0] = np.eye(CLASSES)[0]
    inside, outside = Predictive.from_samples(samples), Predictive.from_samples(zeros)
    found = evaluate(inside, labels, ood={"zeros": outside}).to_dict()["ood"]["zeros"]["scores"]
    assert "pairwise_kl" in inside.available_scores()
    assert set(inside.available_scores()) - set(found) == {"pairwise_kl", "logit_variance"}


def test_default_scores_work_at_temperatures_that_are_no_round_numbers(labels):
    accumulator = PredictiveAccumulator(80, CLASSES, (1 / 3, 1e-7), torch.device("cpu"))
    logits = torch.randn(1, 80, CLASSES, generator=torch.manual_seed(0))
    accumulator.add(slice(0, 80), range(1), logits)
    predictive = accumulator.finish(num_samples=1, seed=0, method="monte_carlo")
    found = evaluate(predictive, labels, ood={"same": predictive}).to_dict()
    assert "entropy@0.3333333333333333" in found["ood"]["same"]["scores"]
    assert "entropy@1e-07" in found["ood"]["same"]["scores"]


# --- errors over networks ----------------------------------------------------------------------


def everything(labels, **options):
    """An ID set, over- and underconfident, and two OOD sets of the same networks."""
    scale = torch.linspace(-2, 4, 80, dtype=torch.float64)
    return (
        sampled(80, scale=scale, seed=0, labels=labels, networks=12, **options),
        {
            "near": sampled(50, scale=1.0, seed=1, labels=labels[:50], networks=12, **options),
            "far": sampled(30, scale=0.0, seed=2, networks=12, **options),
        },
    )


def jackknifed(statistic, *predictives):
    """The formula as it is written, from the predictives without each group."""
    values = np.array(
        [statistic(*left) for left in zip(*(p.leave_out for p in predictives), strict=True)]
    )
    groups = len(values)
    return np.sqrt((groups - 1) / groups * ((values - values.mean()) ** 2).sum())


def test_every_number_has_its_monte_carlo_error(labels):
    inside, sets = everything(labels, num_groups=4)
    report = evaluate(inside, labels, ood=sets, scores=SCORES, num_bins=7).to_dict()
    wanted = {
        "accuracy": lambda p: accuracy_score(labels, p.probs.argmax(axis=1)),
        "nll": lambda p: log_loss(labels, p.probs, labels=range(CLASSES)),
        "brier": lambda p: ((p.probs - np.eye(CLASSES)[labels]) ** 2).sum(axis=1).mean(),
        "ece": lambda p: expected_calibration_error(p.probs, labels, 7),
        "aurc": lambda p: area_under_risk_coverage(p.probs, labels),
    }
    for name, statistic in wanted.items():
        found = report["id"][name]["mc_error"]
        assert found == pytest.approx(jackknifed(statistic, inside), rel=1e-9), name
        assert found > 0
    for key, other in sets.items():
        for score in SCORES:
            for metric, value in report["ood"][key]["scores"][score].items():

                def statistic(p, q, score=score, metric=metric):
                    return ood_numbers(p.score(score), q.score(score))[metric]

                error = jackknifed(statistic, inside, other)
                assert value["mc_error"] == pytest.approx(error, rel=1e-9, abs=1e-15)


def test_errors_stand_beside_the_intervals_and_change_none(labels):
    with_groups, without = everything(labels, num_groups=4), everything(labels)
    first = evaluate(with_groups[0], labels, ood=with_groups[1], scores=SCORES).to_dict()
    second = evaluate(without[0], labels, ood=without[1], scores=SCORES).to_dict()
    a, b = dict(intervals_of(first)), dict(intervals_of(second))
    assert set(a) == set(b)
    for path, value in a.items():
        bare = {key: number for key, number in value.items() if key != "mc_error"}
        assert bare == pytest.approx({k: v for k, v in b[path].items() if k != "mc_error"})
        assert value["mc_error"] is not None
        assert b[path]["mc_error"] is None


def test_kept_samples_give_errors_of_all_but_what_needs_logits(labels):
    inside, sets = everything(labels, keep=True)
    report = evaluate(inside, labels, ood=sets, scores=SCORES).to_dict()
    assert report["id"]["nll"]["mc_error"] > 0
    for score, numbers in report["ood"]["far"]["scores"].items():
        known = [number["mc_error"] is not None for number in numbers.values()]
        assert known == [score != "energy"] * len(OOD_METRICS), score
    foreign = Predictive.from_samples(inside.samples)
    found = evaluate(foreign, labels).to_dict()["id"]["nll"]["mc_error"]
    assert found == pytest.approx(report["id"]["nll"]["mc_error"], rel=1e-9)


def test_sets_with_other_groups_have_no_errors_in_common(labels):
    inside, _ = everything(labels, num_groups=4)
    _, sets = everything(labels, num_groups=3)
    report = evaluate(inside, labels, ood=sets, scores=["entropy"]).to_dict()
    assert report["id"]["nll"]["mc_error"] > 0
    numbers = report["ood"]["far"]["scores"]["entropy"]
    assert all(number["mc_error"] is None for number in numbers.values())


def test_the_mode_has_no_error_over_networks(labels):
    inside, _ = everything(labels, num_groups=4)
    mode = sampled(80, scale=1.5, seed=3, labels=labels, networks=1, method="mode")
    report = evaluate(inside, labels, mode=mode).to_dict()["mode"]
    assert set(report["nll"]) == {"value", "low", "high"}
    assert set(report["mean_minus_mode"]["nll"]) == {"value", "low", "high"}


def test_predictives_without_a_group_are_not_bootstrapped(labels, monkeypatch):
    calls = []
    intervals = metrics.classification_intervals, metrics.ood_intervals

    def counted(function):
        def call(*arguments, **options):
            calls.append(function)
            return function(*arguments, **options)

        return call

    for function in intervals:
        monkeypatch.setattr(metrics, function.__name__, counted(function))
    inside, sets = everything(labels, num_groups=4)
    evaluate(inside, labels, ood=sets, scores=["entropy"])
    assert [calls.count(function) for function in intervals] == [1, 2]


def test_an_infinite_nll_has_no_error(tmp_path):
    sure = Predictive.from_samples([[[1.0, 0.0]] * 5, [[1.0, 0.0]] * 5, [[0.9, 0.1]] * 5])
    for labels in ([1, 0, 0, 0, 0], [0] * 5):
        report = evaluate(sure, labels)
        numbers = json.loads(report.to_json())["id"]["nll"]
        assert (numbers["mc_error"] is None) == (labels[0] == 1)
        assert "± nan" not in report.to_markdown()


def test_report_md_shows_the_errors_that_there_are(labels):
    inside, sets = everything(labels, num_groups=4)
    report = evaluate(inside, labels, ood=sets, scores=SCORES)
    markdown, numbers = report.to_markdown(), report.to_dict()
    assert "± is the Monte Carlo standard error over networks" in markdown
    table, summary, _, near, *_ = tables(markdown)
    for metric, row in zip(ID_METRICS, table[1:], strict=True):
        number = numbers["id"][metric]
        assert row[1].endswith(f"{number['high']:.4f}] ± {number['mc_error']:.4f}")
    auroc = numbers["ood"]["near"]["scores"]["energy"]["auroc"]
    assert near[-1][1].endswith(f"] ± {auroc['mc_error']:.4f}")
    assert all("±" not in cell for cell in near[-1][2:])  # the others would be too wide
    first = numbers["ood"]["near"]["scores"]["entropy"]["auroc"]
    assert summary[1][2].endswith(f"] ± {first['mc_error']:.4f}")
    assert "±" not in evaluate(everything(labels)[0], labels).to_markdown()


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"networks": 5}, "num_samples 5"), ({"seed": 8}, "seed 8"), ({"method": "mode"}, "'mode'")],
)
def test_ood_predictives_of_other_networks_are_refused(inside, labels, changes, named):
    options = dict(changes)
    networks = options.pop("networks", NETWORKS)
    other = sampled(30, scale=0.0, seed=2, networks=networks)
    for name, value in options.items():
        object.__setattr__(other, name, value)
    with pytest.raises(ValueError, match=rf"ood\['far'\].*{named}.*same networks"):
        evaluate(inside, labels, ood={"far": other})


def test_ood_predictive_with_other_classes_is_refused(labels):
    inside = Predictive.from_probs(np.full((80, 3), 1 / 3))
    with pytest.raises(ValueError, match=r"'far'.* has 2 classes and the ID predictive 3"):
        evaluate(inside, labels, ood={"far": Predictive.from_probs([[0.5, 0.5]])})


def test_mode_of_other_inputs_is_refused(inside, labels):
    with pytest.raises(ValueError, match=r"mode .*\(20, 3\).*\(80, 3\).*same inputs"):
        evaluate(inside, labels, mode=sampled(20, scale=0.0, seed=1))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"labels": [0, 1]}, r"labels must have shape \(80,\)"),
        ({"labels": np.full(80, 3)}, r"labels must lie in \[0, 3\)"),
        ({"labels": np.full(80, 0.5)}, "labels must be integer"),
        ({"scores": ()}, "scores is empty"),
        ({"scores": ("entrpy",)}, "did you mean 'entropy'"),
        ({"scores": ("entropy@2",)}, "score 'entropy@2' was not accumulated"),
        ({"num_bins": 0}, "num_bins"),
        ({"confidence_level": 1.0}, "confidence_level"),
        ({"seed": -1}, "seed"),
    ],
)
def test_invalid_arguments_are_named(inside, labels, arguments, named):
    options = {"labels": labels} | arguments
    with pytest.raises(ValueError, match=named):
        evaluate(inside, options.pop("labels"), **options)


def test_foreign_probabilities_have_no_scores_of_networks(labels):
    predictive = Predictive.from_probs(np.full((80, 3), 1 / 3))
    report = evaluate(predictive, labels, ood={"same": predictive})
    assert report.to_dict()["posterior"] is None
    assert set(report.to_dict()["ood"]["same"]["scores"]) == {"entropy", "confidence", "margin"}
    with pytest.raises(ValueError, match="needs the probabilities of each network"):
        evaluate(predictive, labels, scores=["mutual_information"])


# --- schema ----------------------------------------------------------------------------------


def is_measured(value):
    return (
        isinstance(value, dict)
        and set(value) == {"value", "low", "high", "mc_error"}
        and all(number is None or isinstance(number, float) for number in value.values())
    )


def test_report_json_follows_the_schema(folder):
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["schema"] == 1
    assert set(report) >= {"schema", "id", "ood", "posterior", "inference"}
    assert report["id"]["dataset"] == "inside"
    assert type(report["id"]["n"]) is int
    for metric in ID_METRICS:
        assert is_measured(report["id"][metric]), metric
    assert set(report["ood"]) == {"near", "far.away"}
    for entry in report["ood"].values():
        assert type(entry["n"]) is int
        assert set(entry["scores"]) == set(SCORES)
        for numbers in entry["scores"].values():
            assert set(numbers) == set(OOD_METRICS)
            assert all(is_measured(number) for number in numbers.values())
    assert report["posterior"] == {k: v for k, v in POSTERIOR.items() if k != "layers"}
    inference = report["inference"]
    assert {k: v for k, v in inference.items() if k != "seconds"} == {
        "num_samples": NETWORKS,
        "seed": 7,
        "method": "monte_carlo",
        "precision": "float64",
        "device": "cpu",
    }
    assert inference["seconds"] == pytest.approx(2.0)  # the ID set, both OOD sets and the mode


def test_report_json_is_the_reports_dictionary(report, folder):
    assert json.loads((folder / "report.json").read_text(encoding="utf-8")) == report.to_dict()
    assert report.to_json() == (folder / "report.json").read_text(encoding="utf-8")


def test_an_infinite_nll_is_null_and_never_nan(tmp_path):
    sure = Predictive.from_probs([[1.0, 0.0]] * 5)
    report = evaluate(sure, [1, 0, 0, 0, 0], ood={"same": sure}, mode=sure)
    text = (report.save(tmp_path / "r") / "report.json").read_text(encoding="utf-8")
    assert "NaN" not in text
    assert "Infinity" not in text
    numbers = json.loads(text)
    assert numbers["id"]["nll"]["value"] is None
    assert numbers["id"]["nll"]["high"] is None
    assert numbers["id"]["nll"]["mc_error"] is None
    assert numbers["mode"]["mean_minus_mode"]["nll"] == {"value": None, "low": None, "high": None}
    assert numbers["id"]["accuracy"]["value"] == 0.8
    assert numbers["ood"]["same"]["scores"]["entropy"]["auroc"]["value"] == 0.5
    assert "inf" in report.to_markdown()


# --- the folder ------------------------------------------------------------------------------


def test_the_folder_holds_the_files_of_the_contract(folder):
    figures = {f"ood_{score}_{name}.png" for score in SCORES for name in ("near", "far.away")}
    figures |= {"reliability.png", "risk_coverage.png", "roc_near.png", "roc_far.away.png"}
    assert {file.name for file in folder.iterdir()} == figures | {
        "report.html",
        "report.json",
        "report.md",
        "scores.npz",
    }
    for name in figures:
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
        assert (folder / name).stat().st_size > 5_000


def test_a_report_without_ood_sets_has_no_ood_files(inside, labels, tmp_path):
    folder = evaluate(inside, labels).save(tmp_path / "a" / "b")
    assert {file.name for file in folder.iterdir()} == {
        "report.html",
        "report.json",
        "report.md",
        "reliability.png",
        "risk_coverage.png",
        "scores.npz",
    }
    assert json.loads((folder / "report.json").read_text(encoding="utf-8"))["ood"] == {}


def tables(markdown):
    """The tables of a Markdown text as lists of cells; every row of one has the same length."""
    found, rows = [], []
    for line in [*markdown.split("\n"), ""]:
        if line.startswith("|"):
            assert line.endswith("|")
            rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif rows:
            assert len({len(row) for row in rows}) == 1, rows
            assert set(rows[1]) == {"---"}
            found.append(rows[:1] + rows[2:])
            rows = []
    return found


def test_report_md_shows_the_numbers_of_report_json(report, folder):
    numbers = report.to_dict()
    inside, summary, classes, *of_sets = tables((folder / "report.md").read_text(encoding="utf-8"))
    assert inside[0] == ["", f"mean of {NETWORKS} networks", "mode", "mean − mode"]
    assert [row[0] for row in inside[1:]] == [METRIC_NAMES[name] for name in ID_METRICS]
    for metric, row in zip(ID_METRICS, inside[1:], strict=True):
        assert row[1].startswith(f"{numbers['id'][metric]['value']:.4f} [")
        assert row[3].startswith(f"{numbers['mode']['mean_minus_mode'][metric]['value']:.4f} [")
    for name, row in zip(("near", "far.away"), summary[1:], strict=True):
        aurocs = {k: v["auroc"]["value"] for k, v in numbers["ood"][name]["scores"].items()}
        best = max(aurocs, key=aurocs.get)
        assert [row[0], row[1], row[3]] == [name, "`entropy`", f"`{best}` of {len(SCORES)}"]
        assert row[2].startswith(f"{aurocs['entropy']:.4f} [")
        assert row[4].startswith(f"{aurocs[best]:.4f} [")
    assert [float(row[2].split(" [")[0]) for row in classes[1:]] == pytest.approx(
        [entry["accuracy"]["value"] for entry in numbers["per_class"]], abs=5.1e-5
    )
    halves = (("auroc", "aupr_out", "fpr95"), ("aupr_in", "fpr95_in", "detection_error"))
    cases = [(name, half) for name in ("near", "far.away") for half in halves]
    for (name, half), table in zip(cases, of_sets, strict=True):
        assert table[0] == ["score", *(METRIC_NAMES[metric] for metric in half)]
        for row in table[1:]:
            entry = numbers["ood"][name]["scores"][row[0].strip("`")]
            values = [float(cell.split(" [")[0]) for cell in row[1:]]
            assert values == pytest.approx([entry[m]["value"] for m in half], abs=5.1e-5)


EVIL = "a|b<script>*x*\n# `h` | c |\r\n| - |\x1b[31m\\"


@pytest.mark.usefixtures("no_page")
def test_evil_names_break_neither_tables_nor_files(labels, tmp_path):
    inside = sampled(80, scale=2.5, seed=0, labels=labels)
    inside.metadata["dataset"] = EVIL
    far = sampled(30, scale=0.0, seed=2)
    names = [EVIL, "../../x y", "A_B", "a/b", "a\\b", "é", "$x^$", "", "数据", "n" * 300]
    report = evaluate(inside, labels, ood=dict.fromkeys(names, far), scores=["entropy"])
    folder = report.save(tmp_path / "r")
    assert [path.name for path in tmp_path.iterdir()] == ["r"]
    histograms = [file.name for file in folder.iterdir() if file.name.startswith("ood_")]
    assert len(histograms) == len({name.lower() for name in histograms}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9._+@-]{1,120}", name) for name in histograms)

    markdown = (folder / "report.md").read_text(encoding="utf-8")
    assert len(tables(markdown)) == 3 + 2 * len(names)  # ID, OOD, classes; two for each set
    headings = [line for line in markdown.splitlines() if line.startswith("#")]
    assert len(headings) == 3 + len(names) + 2  # title, OOD, classes, sets, posterior, inference
    for heading in headings:
        assert not re.search(r"[|<>*`#\x1b]", re.sub(r"\\.", "", heading.lstrip("#"))), heading
    assert headings[0].endswith("31m\\\\")  # the whole name, on one line

    numbers = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert set(numbers["ood"]) == set(names)
    with np.load(folder / "scores.npz") as file:
        keys = [key for key in file.files if key.startswith("ood/")]
        assert len(keys) == len(names)
        assert all(re.fullmatch(r"ood/[A-Za-z0-9._+-]+/entropy", key) for key in keys)


@pytest.mark.usefixtures("no_page")
def test_an_ood_set_may_have_the_name_of_the_id_set(inside, labels, tmp_path):
    far = sampled(30, scale=0.0, seed=2)
    report = evaluate(inside, labels, ood={"inside": far}, scores=["entropy"])
    folder = report.save(tmp_path)
    assert (folder / "ood_entropy_inside.png").is_file()
    assert report.to_dict()["ood"]["inside"]["n"] == 30


@pytest.mark.usefixtures("no_page")
def test_save_replaces_an_earlier_report_and_leaves_other_files(inside, labels, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    far = sampled(30, scale=0.0, seed=2)
    evaluate(inside, labels, ood={"far": far}, scores=["entropy"]).save(tmp_path)
    evaluate(inside, labels, seed=5).save(tmp_path)
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["ood"] == {}
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".")]


@pytest.mark.usefixtures("no_page")
@pytest.mark.parametrize("fault", [KeyboardInterrupt, OSError(28, "No space left on device")])
@pytest.mark.parametrize("where", ["savez", "second figure", "to_json", "page"])
def test_a_fault_while_saving_leaves_the_earlier_report(
    report, inside, labels, tmp_path, monkeypatch, fault, where
):
    evaluate(inside, labels, seed=5).save(tmp_path / "r")
    before = {file.name: file.read_bytes() for file in (tmp_path / "r").iterdir()}
    drawn = []
    savefig = Figure.savefig

    def fail(*_, **__):
        raise fault

    def fail_at_second(figure, path, **options):
        drawn.append(path)
        if len(drawn) == 2:
            path.write_bytes(b"half")
            raise fault
        savefig(figure, path, **options)

    if where == "savez":
        monkeypatch.setattr(np, "savez", fail)
    elif where == "to_json":
        monkeypatch.setattr(type(report), "to_json", fail)
    elif where == "page":
        monkeypatch.setattr(pages, "report_page", fail)
    else:
        monkeypatch.setattr(Figure, "savefig", fail_at_second)
    with pytest.raises((KeyboardInterrupt, OSError)):
        report.save(tmp_path / "r")
    assert {file.name: file.read_bytes() for file in (tmp_path / "r").iterdir()} == before


@pytest.mark.usefixtures("no_page")
def test_save_names_a_place_that_is_no_folder(report, tmp_path):
    (tmp_path / "file").write_text("x")
    for place in ("file", "file/under"):
        with pytest.raises(ValueError, match=r"cannot create the folder .*choose another place"):
            report.save(tmp_path / place)
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.usefixtures("no_page")
def test_figures_of_an_earlier_report_do_not_stay(tmp_path):
    confident = Predictive.from_probs([[0.9, 0.1], [0.2, 0.8]])
    unsure = Predictive.from_probs([[0.6, 0.4], [0.5, 0.5]])
    (tmp_path / "ood_mine.png").write_text("mine")
    for name in ("one", "two"):
        evaluate(confident, [0, 1], ood={name: unsure}, scores=["entropy"]).save(tmp_path)
    figures = {file.name for file in tmp_path.glob("*.png")}
    figures -= {"reliability.png", "risk_coverage.png"}
    assert figures == {"ood_entropy_two.png", "roc_two.png", "ood_mine.png"}


@pytest.mark.usefixtures("no_page")
def test_an_earlier_report_cannot_name_files_elsewhere(tmp_path):
    victim = tmp_path / "x_one.png"
    victim.write_text("mine")
    out = tmp_path / "out"
    (out / "ood_..").mkdir(parents=True)
    (out / "report.json").write_text('{"ood": {"one": {"scores": {"../../x": {}}}}}')
    evaluate(Predictive.from_probs([[0.9, 0.1], [0.2, 0.8]]), [0, 1]).save(out)
    assert victim.read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "options", "match"),
    [
        (([[0.9, 0.1]], [0]), {}, "Predictive.from_probs"),
        ((Predictive.from_probs([[0.9, 0.1]]), [0]), {"ood": [1]}, "dictionary"),
        ((Predictive.from_probs([[0.9, 0.1]]), [0]), {"scores": "entropy"}, "list of names"),
        ((Predictive.from_probs([[0.9, 0.1]]), [0]), {"ood": {"a": [[0.5, 0.5]]}}, r"ood\['a'\]"),
        ((Predictive.from_probs([[0.9, 0.1]]), [0]), {"mode": [[0.5, 0.5]]}, "mode must be"),
    ],
)
def test_arguments_of_other_kinds_are_named(arguments, options, match):
    with pytest.raises(TypeError, match=match):
        evaluate(*arguments, **options)


def test_reprs_are_short():
    predictive = Predictive.from_probs(np.full((5000, 2), 0.5))
    assert len(repr(predictive)) < 200
    assert len(repr(evaluate(predictive, np.zeros(5000, int)))) < 200

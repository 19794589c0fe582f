from itertools import pairwise

import numpy as np
import pytest
import torch

from bbnn_uq import Predictive, metrics, network_sums
from bbnn_uq.metrics import uncertainty
from bbnn_uq.monte_carlo import metric_curve, monte_carlo_error
from bbnn_uq.predictive_sums import PredictiveAccumulator
from bbnn_uq.scores import LOGIT_SCORES, PLAIN_SCORES, SCORES, parse_score

CPU = torch.device("cpu")
SAMPLES = np.random.default_rng(0).dirichlet([0.5, 1.0, 2.0], size=(5, 11))


def summed(samples, networks=None, *, temperatures=(1.0, 2.0), num_groups=1):
    """Sums over the networks of these numbers, whose probabilities are ``samples``."""
    count, inputs, classes = samples.shape
    accumulator = PredictiveAccumulator(inputs, classes, temperatures, CPU, num_groups=num_groups)
    logits = torch.tensor(np.log(samples))
    for network in range(count) if networks is None else networks:
        accumulator.add(slice(0, inputs), range(network, network + 1), logits[network][None])
    return accumulator


def accumulated(*, num_groups=1, **options):
    accumulator = summed(SAMPLES, num_groups=num_groups)
    return accumulator.finish(**{"num_samples": 5, "seed": 4, "method": "monte_carlo"} | options)


@pytest.mark.parametrize("scale", [0.3, 3.0, 30.0])
def test_streaming_and_kept_samples_give_the_same_scores(scale):
    shape, temperatures = (6, 40, 5), (1.0, 0.5, 3.0)
    logits = torch.tensor(np.random.default_rng(1).normal(0.0, scale, shape))
    accumulator = PredictiveAccumulator(40, 5, temperatures, CPU, num_groups=3)
    accumulator.add(slice(0, 40), range(6), logits)
    streamed = accumulator.finish(num_samples=6, seed=0, method="monte_carlo")
    samples = accumulator.sample(logits).numpy()
    groups = np.arange(6) % 3
    pairs = [(streamed, samples)]
    pairs += [(each, samples[groups != g]) for g, each in enumerate(streamed.leave_out)]
    for found, of_networks in pairs:
        kept = Predictive.from_samples(of_networks)
        names = set(SCORES) - set(LOGIT_SCORES)
        assert set(kept.available_scores()) == names
        softened = {f"{n}@{t:g}" for n in names - set(PLAIN_SCORES) for t in temperatures}
        for name in names | softened:
            wanted = kept.score(name)
            np.testing.assert_allclose(found.score(name), wanted, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(
            found.corrected_mutual_information, kept.corrected_mutual_information, atol=1e-12
        )
        np.testing.assert_allclose(found.probs_std_error, kept.probs_std_error, atol=1e-12)


def test_scores_of_logits_are_the_metrics():
    logits = np.random.default_rng(1).normal(0.0, 3.0, (6, 40, 5))
    accumulator = PredictiveAccumulator(40, 5, (1.0, 3.0), CPU, num_groups=2)
    accumulator.add(slice(0, 40), range(6), torch.tensor(logits))
    found = accumulator.finish(num_samples=6, seed=0, method="monte_carlo")
    for each, own in [(found, logits), (found.of_groups([1]), logits[1::2])]:
        np.testing.assert_allclose(each.score("energy"), uncertainty.energy(own), rtol=1e-12)
        softer = uncertainty.energy(own, temperature=3.0)
        np.testing.assert_allclose(each.score("energy@3"), softer, rtol=1e-12)
        np.testing.assert_allclose(each.max_logit, uncertainty.max_logit(own), rtol=1e-12)
        np.testing.assert_array_equal(each.score("max_logit"), -each.max_logit)


def test_attributes_are_the_metrics():
    predictive = Predictive.from_samples(SAMPLES)
    np.testing.assert_array_equal(predictive.probs, SAMPLES.mean(axis=0))
    np.testing.assert_allclose(predictive.mutual_information, metrics.mutual_information(SAMPLES))
    np.testing.assert_allclose(
        predictive.corrected_mutual_information,
        uncertainty.mutual_information(SAMPLES, correct_bias=True),
        rtol=1e-12,
    )
    for name in ("logit_variance", "pairwise_kl"):
        wanted = getattr(uncertainty, name)(SAMPLES)
        np.testing.assert_array_equal(getattr(predictive, name), wanted)
        np.testing.assert_array_equal(predictive.score(name), wanted)
    ordered = np.sort(predictive.probs, axis=1)
    np.testing.assert_allclose(predictive.confidence, ordered[:, -1])
    np.testing.assert_allclose(predictive.margin, ordered[:, -1] - ordered[:, -2])
    np.testing.assert_array_equal(
        predictive.score("variation_ratio"), metrics.variation_ratio(SAMPLES)
    )
    np.testing.assert_array_equal(
        predictive.score("predictive_entropy"), predictive.score("entropy")
    )


def test_identical_networks_have_no_mutual_information():
    predictive = Predictive.from_samples(np.repeat(SAMPLES[:1], 4, axis=0))
    assert np.all(predictive.mutual_information >= 0)
    np.testing.assert_allclose(predictive.mutual_information, 0, atol=1e-12)
    assert np.all(predictive.variation_ratio == 0)


def test_every_score_is_higher_for_the_stranger_input():
    # Input 0: all networks sure and agreed; input 1: each sure of another class.
    sure = 8 * torch.eye(3)
    accumulator = PredictiveAccumulator(2, 3, (1.0, 4.0), CPU)
    for network in range(3):
        both = torch.stack([sure[0] + 1, sure[network] - 1])
        logits = both + 0.1 * network * torch.tensor([[0.0], [1.0]])
        accumulator.add(slice(0, 2), range(network, network + 1), logits[None])
    predictive = accumulator.finish(num_samples=3, seed=0, method="monte_carlo")
    for name in set(SCORES) - {"expected_entropy"}:
        low, high = predictive.score(name)
        assert high > low, name


@pytest.mark.parametrize("metadata", [{}, {"dataset": "d", "seconds": 1.5}])
def test_file_round_trip(tmp_path, metadata):
    kept = SAMPLES.astype(np.float32)
    before = accumulated(num_groups=2, metadata=metadata, samples=kept)
    before.save(tmp_path / "p.npz")
    after = Predictive.load(tmp_path / "p.npz")
    for name in Predictive._ARRAYS:
        assert getattr(before, name) is not None
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    for name in ("entropy@2", "energy@2", "mutual_information", "pairwise_kl@2"):
        np.testing.assert_array_equal(after.score(name), before.score(name))
    for name in ("num_samples", "seed", "method", "metadata"):
        assert getattr(after, name) == getattr(before, name)
    assert len(after.leave_out) == 2
    for ours, theirs in zip(after.leave_out, before.leave_out, strict=True):
        assert ours.num_samples == theirs.num_samples
        for name in (*SCORES, "entropy@2", "pairwise_kl@2"):
            np.testing.assert_array_equal(ours.score(name), theirs.score(name))


def test_files_without_errors_and_groups_load(tmp_path):
    accumulated(num_groups=2).save(tmp_path / "now.npz")
    with np.load(tmp_path / "now.npz") as file:
        arrays = {key: file[key] for key in file.files}
    earlier = {k: v for k, v in arrays.items() if k[:6] != "groups" and k != "probs_std_error"}
    assert len(earlier) == len(arrays) - 15  # the error, and 14 sums of the groups
    np.savez(tmp_path / "earlier.npz", **earlier)
    after = Predictive.load(tmp_path / "earlier.npz")
    np.testing.assert_array_equal(
        after.score("energy@2"), accumulated(num_groups=2).score("energy@2")
    )
    assert after.probs_std_error is None
    assert after.leave_out == ()
    assert after.num_groups == 0


def test_files_without_what_compares_logits_load(tmp_path):
    now = accumulated(num_groups=2)
    now.save(tmp_path / "now.npz")
    later = {"pairwise_kl", "logit_variance", "max_logit", "softened/2.0/pairwise_kl"}
    later |= {"groups/below_top", "groups/max_logit", "groups/centred_squares", "groups/squares"}
    later |= {"groups/1.0/log_odds", "groups/2.0/log_odds"}
    with np.load(tmp_path / "now.npz") as file:
        assert later <= set(file.files)
        np.savez(tmp_path / "then.npz", **{k: file[k] for k in file.files if k not in later})
    then = Predictive.load(tmp_path / "then.npz")
    names = set(SCORES) - {"pairwise_kl", "logit_variance", "max_logit"}
    for ours, theirs in [(then, now), *zip(then.leave_out, now.leave_out, strict=True)]:
        assert set(ours.available_scores()) == names
        for name in (*names, "mutual_information@2", "energy@2"):
            np.testing.assert_array_equal(ours.score(name), theirs.score(name))
        for name in ("pairwise_kl", "logit_variance", "pairwise_kl@2"):
            with pytest.raises(
                ValueError, match="needs the probabilities of each network, at least two"
            ):
                ours.score(name)
    assert then.leave_out[0].probs_std_error is None
    assert then.leave_out[0].corrected_mutual_information is None


def test_file_of_bare_probabilities(tmp_path):
    Predictive.from_probs([[0.2, 0.8]]).save(tmp_path / "p.npz")
    after = Predictive.load(tmp_path / "p.npz")
    assert set(after.to_arrays()) == {"probs"}
    assert after.energy is None
    assert after.seed is None
    assert after.available_scores() == ("entropy", "confidence", "margin")


def test_damaged_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "p.npz"
    accumulated().save(path)
    whole = path.read_bytes()
    for content in (b"", b"no zip", whole[:100], whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"p.npz"):
            Predictive.load(path)
    np.savez(path, x=np.zeros(3))
    with pytest.raises(ValueError, match=r"p.npz.*Predictive.save"):
        Predictive.load(path)
    arrays = accumulated().to_arrays()
    del arrays["probs"]
    with pytest.raises(KeyError, match="probs"):
        Predictive.from_arrays(arrays, accumulated().about())
    with pytest.raises(FileNotFoundError):
        Predictive.load(tmp_path / "missing.npz")


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("mutual_info", "did you mean 'mutual_information'"),
        ("entropy@", "positive number"),
        ("entropy@0", "positive number"),
        ("entropy@nan", "positive number"),
        ("entropy@x", "positive number"),
        ("entropy@ 3", "positive number"),
        ("entropy@1_0", "positive number"),
        ("entropy@inf", "positive number"),
        ("variation_ratio@2", "same at every temperature"),
        ("logit_variance@2", "same at every temperature"),
        ("max_logit@2", "drop the '@' of 'max_logit@2'"),
        ("pairwise@2", "did you mean 'pairwise_kl'"),
        ("entropy@7", r"score_temperatures=\(1.0, 7\)"),
    ],
)
def test_unknown_scores_are_refused(name, match):
    with pytest.raises(ValueError, match=match):
        accumulated().score(name)


def test_scores_that_need_more_say_so():
    bare = Predictive.from_probs([[0.2, 0.8]])
    assert bare.mutual_information is None
    assert bare.corrected_mutual_information is None
    for name in ("mutual_information", "pairwise_kl", "logit_variance"):
        with pytest.raises(ValueError, match="needs the probabilities of each network"):
            bare.score(name)
    for name in ("energy", "max_logit"):
        with pytest.raises(ValueError, match="needs logits"):
            Predictive.from_samples(SAMPLES).score(name)


def test_one_network_has_no_spread_over_networks():
    streamed = summed(SAMPLES, [0]).finish(num_samples=1, seed=0, method="monte_carlo")
    kept = Predictive.from_samples(SAMPLES[:1])
    for one in (streamed, kept):
        assert one.pairwise_kl is one.logit_variance is one.corrected_mutual_information is None
        with pytest.raises(
            ValueError, match="needs the probabilities of each network, at least two"
        ):
            one.score("pairwise_kl@2")
    assert streamed.available_scores() == ("entropy", "confidence", "margin", "energy", "max_logit")
    assert kept.available_scores() == ("entropy", "confidence", "margin")


def test_the_mode_is_no_random_draw_but_its_members_may_differ():
    mode = accumulated(method="mode", num_groups=5)
    np.testing.assert_allclose(mode.pairwise_kl, uncertainty.pairwise_kl(SAMPLES), rtol=1e-11)
    assert mode.corrected_mutual_information is None
    assert mode.leave_out[0].probs_std_error is None


def test_a_class_that_no_network_allows_corrects_nothing():
    padded = np.concatenate([SAMPLES, np.zeros_like(SAMPLES[..., :1])], axis=2)
    wanted = Predictive.from_samples(SAMPLES).corrected_mutual_information
    found = Predictive.from_samples(padded).corrected_mutual_information
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_scores_that_are_infinite_are_not_offered():
    samples = [[[0.5, 0.5], [0.4, 0.6]], [[1.0, 0.0], [0.5, 0.5]]]
    found = Predictive.from_samples(samples)
    assert np.isinf(found.score("pairwise_kl")).tolist() == [True, False]
    assert np.isinf(found.score("logit_variance")).tolist() == [True, False]
    assert set(found.available_scores()) == set(SCORES) - {
        "pairwise_kl", "logit_variance", "energy", "max_logit"
    }  # fmt: skip


def test_parse_score():
    assert parse_score("entropy") == ("entropy", 1.0)
    assert parse_score("energy@0.5") == ("energy", 0.5)
    assert parse_score("variation_ratio@1") == ("variation_ratio", 1.0)


def test_bad_probabilities_are_refused():
    with pytest.raises(ValueError, match="probs must sum to 1"):
        Predictive.from_probs([[0.2, 0.2]])
    with pytest.raises(ValueError, match=r"samples must have shape \(S, N, C\)"):
        Predictive.from_samples([[0.5, 0.5]])


@pytest.mark.parametrize("count", [3, 32, 1000])
def test_identical_networks_have_no_mutual_information_at_all(count):
    logits = torch.randn(500, 10, generator=torch.Generator().manual_seed(0))
    accumulator = PredictiveAccumulator(500, 10, (1.0, 3.0), CPU, num_groups=3)
    for network in range(count):
        accumulator.add(slice(0, 500), range(network, network + 1), logits[None])
    result = accumulator.finish(num_samples=count, seed=0, method="monte_carlo")
    assert (result.mutual_information == 0).all()
    assert (result.probs_std_error == 0).all()
    for name in ("mutual_information@3", "pairwise_kl", "pairwise_kl@3", "logit_variance"):
        assert (result.score(name) == 0).all()
        assert (result.leave_out[1].score(name) == 0).all()
    assert (result.corrected_mutual_information == 0).all()
    kept = np.repeat(torch.softmax(logits, dim=1).numpy()[None], count, axis=0)
    assert (metrics.mutual_information(kept) == 0).all()


def test_arrays_of_parts_of_the_inputs_can_be_joined():
    def part(inputs):
        accumulator = summed(SAMPLES[:, inputs], num_groups=2)
        options = {"num_samples": 5, "seed": 4, "method": "monte_carlo"}
        return accumulator.finish(**options, samples=SAMPLES[:, inputs])

    whole, parts = part(slice(None)), [part(slice(4)), part(slice(4, None))]
    arrays = [each.to_arrays() for each in parts]
    joined = {"groups/num_networks": arrays[0]["groups/num_networks"]}
    for key in set(whole.to_arrays()) - set(joined):
        axis = 1 if key == "samples" or key.startswith("groups/") else 0
        joined[key] = np.concatenate([each[key] for each in arrays], axis=axis)
    found = Predictive.from_arrays(joined, whole.about())
    for ours, theirs in [(found, whole), *zip(found.leave_out, whole.leave_out, strict=True)]:
        assert ours.about() == theirs.about()
        for name in (*SCORES, "energy@2", "margin@2", "pairwise_kl@2"):
            np.testing.assert_array_equal(ours.score(name), theirs.score(name))
    np.testing.assert_array_equal(found.samples, whole.samples)
    np.testing.assert_array_equal(found.probs_std_error, whole.probs_std_error)


# --- how networks and inputs are split ---------------------------------------------------------


def cuts(generator, length):
    """Some increasing numbers from 0 to ``length``, both ends included."""
    count = generator.integers(min(length, 9))
    inner = generator.choice(np.arange(1, length), size=count, replace=False)
    return [0, *sorted(inner.tolist()), length]


def same_bits(a, b):
    for name in (*SCORES, "entropy@3", "energy@3", "mutual_information@3", "pairwise_kl@3"):
        np.testing.assert_array_equal(a.score(name), b.score(name), strict=True)
    np.testing.assert_array_equal(a.probs, b.probs)
    np.testing.assert_array_equal(a.probs_std_error, b.probs_std_error)


@pytest.mark.parametrize("num_groups", [1, 3])
@pytest.mark.parametrize(
    ("inputs", "classes", "dtype"),
    [
        (41, 2, torch.float32),
        (7, 10, torch.float64),
        (23, 17, torch.float32),
        (5, 130, torch.int8),
        (2000, 10, torch.float32),
        (2, 40_000, torch.float32),  # a row that several threads would share
    ],
)
def test_no_bit_depends_on_how_networks_and_inputs_are_split(inputs, classes, dtype, num_groups):
    generator = np.random.default_rng(3)
    logits = torch.tensor(generator.normal(0, 9, (9, inputs, classes))).to(dtype).to(torch.float32)
    size = (inputs, classes, (1.0, 3.0), CPU)
    whole = PredictiveAccumulator(*size, num_groups=num_groups)
    whole.add(slice(0, inputs), range(9), logits)
    one = PredictiveAccumulator(1, *size[1:], num_groups=num_groups)
    one.add(slice(0, 1), range(9), logits[:, inputs // 2][:, None])
    options = {"num_samples": 9, "seed": 0, "method": "monte_carlo"}
    for _ in range(10):
        split = PredictiveAccumulator(*size, num_groups=num_groups)
        rows = cuts(generator, inputs)
        for top, bottom in pairwise(rows):
            networks = cuts(generator, 9)
            for first, last in pairwise(networks):
                part = logits[first:last, top:bottom]
                split.add(slice(top, bottom), range(first, last), part)
        assert torch.equal(split.sums()["sums"], whole.sums()["sums"])
        same_bits(split.finish(**options), whole.finish(**options))
    middle = one.finish(**options)
    for name in (*SCORES, "mutual_information@3", "pairwise_kl@3"):
        assert middle.score(name)[0] == whole.finish(**options).score(name)[inputs // 2]


def test_memory_order_of_the_logits_changes_no_bit():
    logits = torch.randn(4, 6, 33, generator=torch.Generator().manual_seed(0))
    found = []
    for given in (logits, logits.transpose(1, 2).contiguous().transpose(1, 2)):
        accumulator = PredictiveAccumulator(6, 33, (1.0,), CPU)
        accumulator.add(slice(0, 6), range(4), given)
        found.append(accumulator.sums()["sums"])
    assert torch.equal(*found)


def test_a_tie_is_a_vote_for_the_first_class():
    accumulator = PredictiveAccumulator(1, 3, (1.0,), CPU)
    accumulator.add(slice(0, 1), range(2), torch.tensor([[[2.0, 2.0, 0.0]], [[0.0, 2.0, 2.0]]]))
    found = accumulator.finish(num_samples=2, seed=0, method="monte_carlo")
    assert found.variation_ratio.tolist() == [0.5]


def test_energy_and_entropy_of_large_logits():
    logits = torch.tensor([[[1e4, 1e4 - 1.0, -1e4]]])
    accumulator = PredictiveAccumulator(1, 3, (1.0, 1e4), CPU)
    accumulator.add(slice(0, 1), range(1), logits)
    found = accumulator.finish(num_samples=1, seed=0, method="monte_carlo")
    assert found.energy == pytest.approx([-1e4 - np.log1p(np.exp(-1.0))], rel=1e-15)
    p = 1 / (1 + np.exp(-1.0))
    assert found.expected_entropy == pytest.approx([-p * np.log(p) - (1 - p) * np.log(1 - p)])
    softer = np.exp([0.0, -1e-4, -2.0]).sum()
    assert found.score("energy@1e4") == pytest.approx([-1e4 - 1e4 * np.log(softer)], rel=1e-15)


def test_networks_that_disagree_by_huge_logits():
    # Sure of one class each: the divergence of a from b is the logit of a's class less b's.
    logits = torch.tensor([[[1e4, -1e4, 0.0]], [[-1e4, 1e4, 0.0]]], dtype=torch.float64)
    accumulator = PredictiveAccumulator(1, 3, (1.0, 1e4), CPU)
    accumulator.add(slice(0, 1), range(2), logits)
    found = accumulator.finish(num_samples=2, seed=0, method="monte_carlo")
    assert found.pairwise_kl == pytest.approx([2e4], rel=1e-15)
    assert found.logit_variance == pytest.approx([4 / 3 * 1e8], rel=1e-14)
    assert found.max_logit.tolist() == [1e4]
    a, b = np.exp(1.0), np.exp(-1.0)
    softer = 2 * (a - b) / (a + b + 1)
    assert found.score("pairwise_kl@1e4") == pytest.approx([softer], rel=1e-13)


@pytest.mark.parametrize("classes", [10, 1000])
@pytest.mark.parametrize("count", [2, 7, 100])
def test_identical_networks_of_huge_logits_differ_by_nothing(count, classes):
    generator = np.random.default_rng(0)
    logits = generator.uniform(-1e4, 1e4, (1, 40, classes))
    logits[:, :20] = -1e4 * generator.uniform(0.999, 1.0, (20, classes))
    logits[:, :20, 3] = 1e4  # one class far above all others
    accumulator = PredictiveAccumulator(40, classes, (1.0, 0.1, 1e4), CPU)
    for network in range(count):
        accumulator.add(slice(0, 40), range(network, network + 1), torch.tensor(logits))
    found = accumulator.finish(num_samples=count, seed=0, method="monte_carlo")
    for name in ("pairwise_kl", "pairwise_kl@0.1", "pairwise_kl@1e4", "logit_variance"):
        np.testing.assert_array_equal(found.score(name), 0.0)


def test_sums_are_what_their_names_say():
    logits = np.random.default_rng(2).normal(0.0, 3.0, (5, 4, 3))
    accumulator = PredictiveAccumulator(4, 3, (1.0, 2.0), CPU, num_groups=2)
    accumulator.add(slice(0, 4), range(5), torch.tensor(logits))
    assert accumulator.sums()["sums"].shape == (2, 4, network_sums.num_columns(3, 2))
    found = network_sums.by_name(accumulator.sums()["sums"].numpy(), (1.0, 2.0), 5)
    below = logits - logits.max(axis=2, keepdims=True)
    wanted = {
        "votes": np.eye(3)[logits.argmax(axis=2)],
        "below_top": below,
        "max_logit": logits.max(axis=2),
        "centred_squares": 3 * logits.var(axis=2),
    }
    for t in (1.0, 2.0):
        p = np.exp(logits / t) / np.exp(logits / t).sum(axis=2, keepdims=True)
        wanted |= {
            f"{t}/probs": p,
            f"{t}/log_odds": (p * below).sum(axis=2) / t,
            f"{t}/expected_entropy": -(p * np.log(p)).sum(axis=2),
            f"{t}/energy": -t * np.log(np.exp(logits / t).sum(axis=2)),
        }
    wanted["squares"] = wanted["1.0/probs"] ** 2
    assert set(found) == {"num_networks", *wanted}
    assert found["num_networks"].tolist() == [3, 2]
    for name, each in wanted.items():
        both = np.stack([each[0::2].sum(axis=0), each[1::2].sum(axis=0)])
        np.testing.assert_allclose(found[name], both, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("classes", [1, 2, 3, 7, 64, 100])
def test_the_sum_by_halves_is_a_sum(classes):
    x = torch.rand(3, 4, classes, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kept = x.clone()
    torch.testing.assert_close(network_sums._sum_by_halves(x), x.sum(-1, keepdim=True))
    assert torch.equal(x, kept)


def test_samples_are_softmax_whatever_axes_lead():
    logits = torch.tensor(np.log(SAMPLES))
    for given, wanted in ((logits, SAMPLES), (logits[0], SAMPLES[0])):
        np.testing.assert_allclose(PredictiveAccumulator.sample(given), wanted, rtol=1e-12)


def test_numbers_of_networks_have_to_match_the_logits():
    with pytest.raises(AssertionError):
        PredictiveAccumulator(1, 3, (1.0,), CPU).add(slice(0, 1), range(2), torch.zeros(1, 1, 3))


@pytest.mark.parametrize(
    ("networks", "inputs", "classes"), [(5, 7, 3), (3, 4000, 10), (70, 100, 10), (2, 3, 20_000)]
)
def test_blocks_hold_every_network_and_input_once(networks, inputs, classes):
    seen = np.zeros((networks, inputs), int)
    logits = torch.zeros(1, 1, 1).expand(networks, inputs, classes)
    for some, part in network_sums.blocks(logits):
        seen[some, part] += 1
        assert seen[some, part].size * classes <= max(2**14, classes)
    assert (seen == 1).all()


# --- merging -----------------------------------------------------------------------------------


@pytest.mark.parametrize("num_groups", [1, 2])
def test_merging_is_adding_all_networks_to_one(num_groups):
    merged = summed(SAMPLES, range(0, 5, 2), num_groups=num_groups)
    merged.merge(summed(SAMPLES, range(1, 5, 2), num_groups=num_groups).sums())
    found = merged.finish(num_samples=5, seed=0, method="monte_carlo")
    wanted = accumulated(num_groups=num_groups)
    for name in (*SCORES, "mutual_information@2", "pairwise_kl@2"):
        np.testing.assert_allclose(found.score(name), wanted.score(name), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found.probs_std_error, wanted.probs_std_error, rtol=1e-12)
    assert len(found.leave_out) == (2 if num_groups == 2 else 0)


def test_merging_with_nothing_changes_nothing():
    full = summed(SAMPLES)
    assert full.width == 3
    before = full.sums()["sums"].clone()
    full.merge(summed(SAMPLES, []).sums())
    empty = summed(SAMPLES, [])
    empty.merge(full.sums())
    assert torch.equal(full.sums()["sums"], before)
    assert torch.equal(empty.sums()["sums"], before)


def test_merging_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"same inputs.*groups.*\(1, 11, 21\).*\(2, 11, 21\)"):
        summed(SAMPLES).merge(summed(SAMPLES, num_groups=2).sums())


# --- the Monte Carlo error of probabilities ----------------------------------------------------


def test_the_standard_error_of_probs_is_that_of_a_mean():
    wanted = SAMPLES.std(axis=0, ddof=1) / np.sqrt(5)
    np.testing.assert_allclose(accumulated().probs_std_error, wanted, rtol=1e-10)
    np.testing.assert_allclose(accumulated(num_groups=3).probs_std_error, wanted, rtol=1e-10)
    np.testing.assert_allclose(Predictive.from_samples(SAMPLES).probs_std_error, wanted, rtol=1e-12)
    root_mean_square = np.sqrt(np.mean(wanted**2))
    assert summed(SAMPLES).standard_error(5) == pytest.approx(root_mean_square, rel=1e-10)


def test_the_standard_error_squared_is_unbiased():
    # p is 0.2 or 0.8 with equal chance: its variance is 0.09, and that of the mean of 8 an eighth.
    generator = np.random.default_rng(5)
    top = generator.choice([0.2, 0.8], size=(8, 4000))
    found = summed(np.stack([top, 1 - top], axis=-1)).finish(
        num_samples=8, seed=0, method="monte_carlo"
    )
    squared = found.probs_std_error[:, 0] ** 2
    error = squared.std() / np.sqrt(4000)
    assert abs(squared.mean() - 0.09 / 8) < 4 * error
    assert error < 0.01 * 0.09 / 8
    assert found.probs[:, 0].var() == pytest.approx(0.09 / 8, rel=4 * np.sqrt(2 / 4000))


def test_what_has_no_standard_error():
    assert Predictive.from_probs([[0.5, 0.5]]).probs_std_error is None
    assert Predictive.from_samples(SAMPLES[:1]).probs_std_error is None
    one = summed(SAMPLES, [0]).finish(num_samples=1, seed=0, method="monte_carlo")
    assert one.probs_std_error is None
    assert accumulated(method="mode").probs_std_error is None
    with pytest.raises(ValueError, match="num_samples must be at least 2, got 1"):
        summed(SAMPLES, [0]).standard_error(1)


# --- groups ------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_groups", [2, 3, 5])
def test_leave_out_is_the_predictive_of_the_other_networks(num_groups):
    found = accumulated(num_groups=num_groups)
    assert len(found.leave_out) == found.num_groups == num_groups
    assert found.leave_out is found.leave_out
    for g, left in enumerate(found.leave_out):
        rest = SAMPLES[np.arange(5) % num_groups != g]
        wanted = Predictive.from_samples(rest)
        assert (left.num_samples, left.seed, left.method) == (len(rest), 4, "monte_carlo")
        for name in set(SCORES) - set(LOGIT_SCORES) | {"entropy@2", "mutual_information@2"}:
            np.testing.assert_allclose(left.score(name), wanted.score(name), atol=1e-12)
        # These logits are ln p, whose logsumexp is 0, and at T = 2 it is that of the roots.
        np.testing.assert_allclose(left.energy, 0, atol=1e-14)
        energy = -2 * np.log(np.sqrt(rest).sum(axis=-1)).mean(axis=0)
        np.testing.assert_allclose(left.score("energy@2"), energy, rtol=1e-13)


def test_any_groups_can_be_had_alone():
    found = accumulated(num_groups=4).of_groups([3, 0, 3])
    np.testing.assert_allclose(found.probs, SAMPLES[[0, 3, 4]].mean(axis=0), rtol=1e-13)
    assert found.num_samples == 3
    for groups in ([], [4], [-1]):
        with pytest.raises(ValueError, match=r"groups must be numbers in \[0, 4\)"):
            accumulated(num_groups=4).of_groups(groups)
    with pytest.raises(ValueError, match=r"\[0, 0\).*num_groups above 1"):
        accumulated().of_groups([0])


def test_errors_and_curves_of_new_scores_are_those_of_kept_samples():
    streamed, kept = accumulated(num_groups=5), Predictive.from_samples(SAMPLES)

    for name in ("pairwise_kl", "logit_variance", "corrected_mutual_information"):

        def mean(predictive, name=name):
            return float(getattr(predictive, name).mean())

        errors = [monte_carlo_error(mean, each) for each in (streamed, kept)]
        assert errors[0] == pytest.approx(errors[1], rel=1e-10)
        assert errors[0] > 0.0

    def plain(predictive):
        return float(predictive.mutual_information.mean())

    curves = [metric_curve(plain, each, seed=3) for each in (streamed, kept)]
    np.testing.assert_allclose(curves[0].mean, curves[1].mean, rtol=1e-10)


def test_more_groups_than_networks_are_none():
    found = accumulated(num_groups=6)
    np.testing.assert_allclose(found.probs, SAMPLES.mean(axis=0), rtol=1e-13)
    assert found.leave_out == ()
    with pytest.raises(ValueError, match="num_groups must be at least 1"):
        PredictiveAccumulator(1, 2, (1.0,), CPU, num_groups=0)


def test_a_finished_predictive_does_not_change_with_its_accumulator():
    accumulator = summed(SAMPLES, num_groups=2)
    found = accumulator.finish(num_samples=5, seed=0, method="monte_carlo")
    before = found.probs.copy(), found.leave_out[0].probs.copy()
    kept = {name: values.copy() for name, values in found.group_sums.items()}
    accumulator.add(slice(0, 11), range(5, 6), torch.zeros(1, 11, 3))
    np.testing.assert_array_equal(found.probs, before[0])
    np.testing.assert_array_equal(found.of_groups([1]).probs, before[1])
    for name, values in kept.items():
        np.testing.assert_array_equal(found.group_sums[name], values)


def test_a_predictive_does_not_change_with_the_callers_array():
    probs, samples = np.array([[0.5, 0.5]]), np.array([[[0.5, 0.5]]])
    of_probs, of_samples = Predictive.from_probs(probs), Predictive.from_samples(samples)
    probs[:] = samples[:] = [1.0, 0.0]
    assert of_probs.probs[0, 0] == of_samples.samples[0, 0, 0] == 0.5

import numpy as np
import pytest
import torch

from bbnn_uq import Predictive, metrics
from bbnn_uq.predictive import SCORES, PredictiveAccumulator, parse_score

SAMPLES = np.random.default_rng(0).dirichlet([0.5, 1.0, 2.0], size=(5, 11))


def accumulated(**options):
    accumulator = PredictiveAccumulator(11, 3, (1.0, 2.0), torch.device("cpu"))
    for sample in SAMPLES:
        accumulator.add(slice(0, 11), torch.tensor(np.log(sample)))
    return accumulator.finish(num_samples=5, seed=4, method="monte_carlo", **options)


def test_streaming_and_kept_samples_give_the_same_scores():
    streamed, kept = accumulated(), Predictive.from_samples(SAMPLES)
    for name in kept.available_scores():
        np.testing.assert_allclose(streamed.score(name), kept.score(name), atol=1e-12)
    for name in ("entropy@2", "mutual_information@2", "margin@2"):
        np.testing.assert_allclose(streamed.score(name), kept.score(name), atol=1e-12)


def test_attributes_are_the_metrics():
    predictive = Predictive.from_samples(SAMPLES)
    np.testing.assert_array_equal(predictive.probs, SAMPLES.mean(axis=0))
    np.testing.assert_allclose(predictive.mutual_information, metrics.mutual_information(SAMPLES))
    ordered = np.sort(predictive.probs, axis=1)
    np.testing.assert_allclose(predictive.confidence, ordered[:, -1])
    np.testing.assert_allclose(predictive.margin, ordered[:, -1] - ordered[:, -2])
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
    logits = 8 * torch.eye(3)
    accumulator = PredictiveAccumulator(2, 3, (1.0, 4.0), torch.device("cpu"))
    for network in range(3):
        both = torch.stack([logits[0] + 1, logits[network] - 1])
        accumulator.add(slice(0, 2), both + 0.1 * network * torch.tensor([[0.0], [1.0]]))
    predictive = accumulator.finish(num_samples=3, seed=0, method="monte_carlo")
    for name in set(SCORES) - {"expected_entropy"}:
        low, high = predictive.score(name)
        assert high > low, name


@pytest.mark.parametrize("metadata", [{}, {"dataset": "d", "seconds": 1.5}])
def test_file_round_trip(tmp_path, metadata):
    before = accumulated(metadata=metadata, samples=SAMPLES.astype(np.float32))
    before.save(tmp_path / "p.npz")
    after = Predictive.load(tmp_path / "p.npz")
    for name in ("probs", "expected_entropy", "variation_ratio", "energy", "samples"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    for name in ("entropy@2", "energy@2", "mutual_information"):
        np.testing.assert_array_equal(after.score(name), before.score(name))
    for name in ("num_samples", "seed", "method", "metadata"):
        assert getattr(after, name) == getattr(before, name)


def test_file_of_bare_probabilities(tmp_path):
    Predictive.from_probs([[0.2, 0.8]]).save(tmp_path / "p.npz")
    after = Predictive.load(tmp_path / "p.npz")
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
        ("variation_ratio@2", "does not depend"),
        ("entropy@7", r"score_temperatures=\(1.0, 7\)"),
    ],
)
def test_unknown_scores_are_refused(name, match):
    with pytest.raises(ValueError, match=match):
        accumulated().score(name)


def test_scores_that_need_more_say_so():
    bare = Predictive.from_probs([[0.2, 0.8]])
    assert bare.mutual_information is None
    with pytest.raises(ValueError, match="needs the probabilities of each network"):
        bare.score("mutual_information")
    with pytest.raises(ValueError, match="needs logits"):
        Predictive.from_samples(SAMPLES).score("energy")


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
    accumulator = PredictiveAccumulator(500, 10, (1.0, 3.0), torch.device("cpu"))
    for _ in range(count):
        accumulator.add(slice(0, 500), logits)
    result = accumulator.finish(num_samples=count, seed=0, method="monte_carlo")
    assert (result.mutual_information == 0).all()
    assert (result.score("mutual_information@3") == 0).all()
    kept = np.repeat(torch.softmax(logits, dim=1).numpy()[None], count, axis=0)
    assert (metrics.mutual_information(kept) == 0).all()

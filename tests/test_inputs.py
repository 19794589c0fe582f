import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from bbnn_uq import inputs
from bbnn_uq.likelihoods import Softmax

X = np.random.default_rng(0).normal(size=(10, 2, 3)).astype(np.float32)


@pytest.mark.parametrize(
    "form",
    [
        X,
        X.tolist(),
        torch.tensor(X),
        TensorDataset(torch.tensor(X)),
        TensorDataset(torch.tensor(X), torch.arange(10)),
        DataLoader(TensorDataset(torch.tensor(X), torch.arange(10)), batch_size=3),
    ],
    ids=["array", "list", "tensor", "dataset", "labelled", "loader"],
)
def test_every_form_gives_the_same_tensor(form):
    tensor = inputs.all_inputs(form)
    assert tensor.shape == (10, 2, 3)
    np.testing.assert_allclose(tensor.numpy(), X, rtol=1e-6)


@pytest.mark.parametrize(
    ("bad", "error", "match"),
    [
        (np.zeros((0, 3)), ValueError, "at least one input"),
        (np.zeros(3), ValueError, r"shape \(N, ...\)"),
        (np.array([[np.nan, 1.0], [np.inf, 0.0]]), ValueError, "2 NaN or infinite"),
        (np.array([["a"]]), TypeError, "must be numbers"),
        (np.array([[None]]), TypeError, "must be numbers"),
    ],
)
def test_bad_inputs_are_refused(bad, error, match):
    with pytest.raises(error, match=match):
        inputs.all_inputs(bad)


@pytest.mark.parametrize(
    ("data", "error", "match"),
    [
        ((X, np.zeros(10)), TypeError, "integer"),
        ((X, np.zeros(10, bool)), TypeError, "integer"),
        ((X, np.zeros(9, int)), ValueError, r"\(10,\).*\(9,\)"),
        ((X, np.zeros((10, 1), int)), ValueError, r"\(10, 1\)"),
        ((X, np.full(10, -1)), ValueError, "from 0 on"),
        (X, TypeError, "pair"),
        ((X, X, X), TypeError, "pair"),
    ],
)
def test_bad_labelled_data_is_refused(data, error, match):
    with pytest.raises(error, match=match):
        inputs.labelled_data(data, Softmax())


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.uint8, np.uint16, np.int64])
def test_any_integer_label_type(dtype):
    _, y = inputs.labelled_data((X, np.arange(10).astype(dtype)), Softmax())
    assert y.dtype is torch.int64
    assert y.tolist() == list(range(10))


def test_normalisation_by_channel_and_by_feature():
    images = np.random.default_rng(1).normal(3, 2, (50, 2, 4, 4))
    features = np.random.default_rng(2).normal(-1, 5, (50, 3))
    for x, axes in ((images, (0, 2, 3)), (features, (0,))):
        found = inputs.compute_normalisation(torch.tensor(x))
        np.testing.assert_allclose(found["mean"], x.mean(axis=axes), rtol=1e-12)
        np.testing.assert_allclose(found["std"], x.std(axis=axes), rtol=1e-12)
        y = inputs.normalise(torch.tensor(x), found).numpy()
        np.testing.assert_allclose(y.mean(axis=axes), 0, atol=1e-12)
        np.testing.assert_allclose(y.std(axis=axes), 1, rtol=1e-12)


def test_normalisation_of_constant_features_and_integers():
    x = torch.tensor([[1, 7], [3, 7]], dtype=torch.uint8)
    y = inputs.normalise(x, inputs.compute_normalisation(x))
    assert y.tolist() == [[-1.0, 0.0], [1.0, 0.0]]


def test_normalisation_refuses_other_channels():
    with pytest.raises(ValueError, match="2 channels"):
        inputs.normalise(torch.zeros(5, 3), {"mean": [0.0, 0.0], "std": [1.0, 1.0]})


@pytest.mark.parametrize("damaged", [{}, {"mean": 3, "std": [1.0]}, {"mean": [1.0], "std": []}])
def test_damaged_normalisation_is_named(damaged):
    with pytest.raises(ValueError, match="normalisation is damaged"):
        inputs.normalise(torch.zeros(2, 1), damaged)


def test_unknown_devices_are_refused():
    with pytest.raises(ValueError, match="device 'quantum'"):
        inputs.check_device("quantum")
    with pytest.raises(ValueError, match="device 'cuda:77'"):
        inputs.check_device("cuda:77")
    with pytest.raises(ValueError, match="device 'meta'"):
        inputs.check_device("meta")
    assert inputs.check_device("cpu") == torch.device("cpu")


def test_seeding_torch_gives_the_stream_back():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    with inputs.seeded_torch(5, torch.device("cpu")):
        first = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    with inputs.seeded_torch(5, torch.device("cpu")):
        assert torch.equal(torch.rand(3), first)

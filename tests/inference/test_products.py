"""int8 and bfloat16 products, against integer arithmetic written out and float64."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from bbnn_uq.inference import products
from bbnn_uq.inference.products import NetworkProducts, ProductRecorder, empty_weights

CPU = torch.device("cpu")


def signs(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, shape, generator=generator, dtype=torch.int8) * 2 - 1


def normal(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def quantised(rows):
    """q and scale of each row in float64, as the module's docstring has them."""
    rows = rows.double().numpy().reshape(len(rows), -1)
    top = np.abs(rows).max(axis=1, keepdims=True)
    return np.rint(127 * rows / top), top / 127


def in_products(function, *args, **kwargs):
    with NetworkProducts():
        return function(*args, **kwargs)


@pytest.mark.parametrize(("rows", "inner", "outer"), [(1, 784, 30), (7, 33, 5), (300, 64, 128)])
def test_int8_linear_is_the_integer_product_of_the_rounded_rows(rows, inner, outer):
    x, w = normal(rows, inner) * 3, signs(outer, inner)
    q, scale = quantised(x)
    exact = scale * (q @ w.double().numpy().T)
    got = in_products(functional.linear, x, w).numpy()
    np.testing.assert_allclose(got, exact, rtol=1e-6, atol=1e-6 * np.abs(exact).max())
    # And the rounding is what one expects of 127 levels: at most half a level an input.
    error = np.abs(got - (x.double() @ w.double().T).numpy())
    assert 0 < error.max() <= 0.5 * inner * scale.max()


@pytest.mark.parametrize(
    "options",
    [
        {"padding": 1},
        {"stride": 2},
        {"padding": (2, 1), "stride": (1, 3), "dilation": (2, 1)},
        {"dilation": 2, "padding": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("channels_last", [False, True])
def test_int8_convolution_is_that_of_the_rounded_images(options, channels_last):
    x, w = normal(5, 3, 11, 9), signs(4, 3, 3, 3)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
        w = w.contiguous(memory_format=torch.channels_last)
    q, scale = quantised(x.contiguous())
    images = torch.from_numpy(q).view(5, 3, 11, 9)
    exact = (
        functional.conv2d(images, w.double(), **options) * torch.from_numpy(scale)[..., None, None]
    )
    got = in_products(functional.conv2d, x, w, **options)
    torch.testing.assert_close(got.double(), exact, rtol=1e-6, atol=1e-5)


def test_patches_are_unfolded_a_few_images_at_a_time(monkeypatch):
    x, w = normal(6, 3, 8, 8), signs(4, 3, 3, 3)
    whole = in_products(functional.conv2d, x, w, padding=1)
    monkeypatch.setattr("bbnn_uq.inference.products.PATCH_BYTES", 4000)
    torch.testing.assert_close(
        in_products(functional.conv2d, x, w, padding=1), whole, rtol=0, atol=0
    )


def test_bfloat16_rounds_activations_and_results_to_8_bits():
    x, w = normal(20, 50), signs(30, 50)
    got = in_products(functional.linear, x, w.bfloat16())
    exact = x.bfloat16().double() @ w.double().T
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), exact, rtol=2**-8, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.int8, torch.bfloat16, torch.float32, torch.float64])
def test_several_networks_at_once_are_each_alone(dtype):
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(75, 4)
    ).eval()
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    x = normal(6, 2, 5, 5).to(wide)
    means, variances = normal(3, 3, seed=2).to(wide), normal(3, 3, seed=3).to(wide).square() + 0.5
    convolution, linear = signs(3, 3, 2, 3, 3, seed=4).to(dtype), signs(3, 4, 75, seed=5).to(dtype)
    state = {name: value.to(wide) for name, value in model.state_dict().items()}
    state |= {"1.num_batches_tracked": torch.tensor(0)}

    def run(convolution, linear, mean, variance, rows):
        own = {"0.weight": convolution, "4.weight": linear}
        own |= {"1.running_mean": mean, "1.running_var": variance}
        with NetworkProducts():
            return torch.func.functional_call(model, state | own, (rows,))

    together = run(convolution, linear, means, variances, x.repeat(3, 1, 1, 1)).view(3, 6, 4)
    for g in range(3):
        alone = run(convolution[g], linear[g], means[g], variances[g], x)
        # int8 rounds alike in whatever company, to the last bit.
        close = {"rtol": 0, "atol": 0} if dtype == torch.int8 else {"rtol": 1e-5, "atol": 1e-4}
        torch.testing.assert_close(together[g], alone, **close)
    if dtype == torch.float64:
        plain = torch.func.functional_call(
            model,
            state
            | {"0.weight": convolution[1], "4.weight": linear[1]}
            | {"1.running_mean": means[1], "1.running_var": variances[1]},
            (x,),
        )
        torch.testing.assert_close(together[1], plain)


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_is_torchs(affine):
    layer = nn.BatchNorm2d(3, affine=affine, eps=1e-3).eval()
    layer.running_mean, layer.running_var = normal(3), normal(3).square() + 0.1
    if affine:
        nn.init.normal_(layer.weight)
        nn.init.normal_(layer.bias)
    x = normal(4, 3, 5, 5)
    torch.testing.assert_close(in_products(layer, x), layer(x))


def test_a_row_does_not_depend_on_its_company_in_int8():
    x, w = normal(700, 130), signs(50, 130)
    whole = in_products(functional.linear, x, w)
    for rows in (slice(0, 1), slice(3, 10), slice(100, 613)):
        assert torch.equal(in_products(functional.linear, x[rows], w), whole[rows])
    x[5] *= 1e6
    assert torch.equal(in_products(functional.linear, x, w)[6], whole[6])


@pytest.mark.parametrize(("rows", "inner", "outer"), [(1, 784, 10), (17, 8, 16), (40, 3, 5)])
def test_a_product_padded_for_a_gpu_is_the_same(rows, inner, outer):
    q, w = signs(rows, inner) * 100, signs(outer, inner, seed=2)
    exact = q.long() @ w.long().T
    assert torch.equal(products._padded_product(q, w.t()).long(), exact)


def test_zero_rows_and_nan_come_out_as_themselves():
    x = torch.zeros(3, 8)
    x[1, 2], x[2, 2] = np.nan, np.inf
    got = in_products(functional.linear, x, signs(4, 8))
    assert torch.equal(got[0], torch.zeros(4))
    assert not torch.isfinite(got[1:]).any()


def test_the_recorder_takes_products_and_nothing_else():
    weights = {name: torch.ones(3, 3) for name in "abcdef"}
    weights["g"] = torch.ones(4, 1, 3, 3)
    x = torch.ones(2, 3)
    with ProductRecorder(weights, torch.int8) as recorder:
        functional.linear(x, weights["a"])
        functional.linear(input=x, weight=weights["b"], bias=None)
        functional.linear(x, weights["c"]).add_(weights["c"].sum())
        x @ weights["d"]
        torch.cat([weights["e"], x])
        assert weights["b"].shape == (3, 3)
        functional.conv2d(torch.ones(1, 4, 5, 5), weights["g"], groups=4)
    assert recorder.products() == {"a", "b"}
    with ProductRecorder(weights, torch.bfloat16) as recorder:
        functional.conv2d(torch.ones(1, 4, 5, 5), weights["g"], groups=4)
    assert recorder.products() == {"g"}


def test_weights_lie_in_memory_as_the_products_read_them():
    weights = empty_weights((2, 4, 3, 2, 2), torch.int8, CPU)
    assert weights.shape == (2, 4, 3, 2, 2)
    assert weights[1].is_contiguous(memory_format=torch.channels_last)
    assert empty_weights((2, 4, 3), torch.int8, CPU).is_contiguous()

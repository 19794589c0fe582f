import itertools

import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn import functional

from bbnn_uq import models
from bbnn_uq.training import binary_parameters

# Specification; channels and the layers with a maximum after them; hidden units.
CONVOLUTIONAL = {
    "vgg": ([128, 128, 256, 256, 512, 512], [1, 3, 5], [1024, 1024]),
    "vgg:0.125": ([16, 16, 32, 32, 64, 64], [1, 3, 5], [128, 128]),
    "vgg:.001": ([1] * 6, [1, 3, 5], [1, 1]),
    "convnet": ([32, 64], [0, 1], [128]),
    "convnet:1.5": ([48, 96], [0, 1], [192]),
}
SHAPES = [(3, 32, 32), (1, 28, 28), (2, 8, 8), (1, 9, 31)]


def weight_shapes(spec, input_shape, num_outputs):
    """Shapes of all weights: pooling halves the image, rounding down."""
    channels, pooled, hidden = CONVOLUTIONAL[spec]
    depth, height, width = input_shape
    shapes = []
    for i, count in enumerate(channels):
        shapes.append((count, depth, 3, 3))
        depth = count
        if i in pooled:
            height, width = height // 2, width // 2
    sizes = [depth * height * width, *hidden, num_outputs]
    return shapes + [(b, a) for a, b in itertools.pairwise(sizes)]


def test_mlp_is_the_papers_with_an_output_scale():
    model = models.build("mlp:2048x3", (1, 28, 28), 10, dropout=0.2)
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    norm = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d)]
    shapes = [tuple(m.weight.shape) for m in linear]
    assert shapes == [(2048, 784), (2048, 2048), (2048, 2048), (10, 2048)]
    assert all(m.bias is None for m in linear)
    assert all((m.eps, m.momentum, m.affine) == (1e-4, 0.15, False) for m in norm)
    assert len(norm) == 4
    assert sum(p.numel() for p in model.parameters()) == 10_014_720 + 1


def test_a_tables_network_scales_features_and_shifts_units():
    model = models.build("tabular:3x2", (2, 5), 4, dropout=0.2)
    assert isinstance(model, models.TabularMLP)
    assert binary_parameters(model) == ["linear1.weight", "linear2.weight", "output.weight"]
    real = {name: parameter.shape for name, parameter in model.named_parameters()}
    assert real["input_scale.scale"] == (10,)
    assert real["output_norm.weight"] == real["output_norm.bias"] == (4,)
    # A sixth, a half and five sixths of a standard normal lie below.
    shifts = model.get_parameter("norm2.bias").detach().double()
    expected = torch.tensor(stats.norm.ppf([1 / 6, 1 / 2, 5 / 6]))
    torch.testing.assert_close(shifts, expected, atol=1e-6, rtol=0)
    assert float(model.get_parameter("output_norm.bias").detach().abs().max()) == 0.0
    listed = models.build("tabular:7-5", (3,), 2)
    assert [m.out_features for m in listed if isinstance(m, nn.Linear)] == [7, 5, 2]


def test_output_scale_multiplies_and_learns():
    scale = models.OutputScale()
    scale.scale.data.fill_(3.0)
    scale(torch.tensor([1.0, 2.0])).sum().backward()
    assert scale(torch.tensor(2.0)) == 6.0
    assert scale.scale.grad == 3.0


def test_listed_widths():
    model = models.build("mlp:7-5", (3, 4), 2)
    assert [tuple(m.weight.shape) for m in model.modules() if isinstance(m, nn.Linear)] == [
        (7, 12),
        (5, 7),
        (2, 5),
    ]


@pytest.mark.parametrize(
    "spec", ["mlp:0x2", "mlp:3x0", "tabular:0x1", "vgg:0", "vgg:0.0", "convnet:" + "9" * 400]
)
def test_sizes_out_of_range_are_refused(spec):
    with pytest.raises(ValueError, match=r"hidden_sizes must|width must be greater than 0"):
        models.build(spec, (1, 8, 8), 2)


@pytest.mark.parametrize(
    "spec",
    ["mlp", "mlp:", "resnet", "mlp:3x-1", "vgg:", "vgg:-1", "vgg:1e2", "VGG", "vgg16", "convnet:x"],
)
def test_unknown_names_are_refused_with_all_forms(spec):
    with pytest.raises(ValueError, match="is not known") as caught:
        models.build(spec, (1, 8, 8), 2)
    for form in (
        "mlp:256x3",
        "mlp:512-256-64",
        "tabular",
        "vgg",
        "convnet",
        "vgg:0.25",
        "module:factory",
    ):
        assert form in str(caught.value)
    assert repr(spec) in str(caught.value)


@pytest.mark.parametrize("dropout", [-0.1, 1.0])
@pytest.mark.parametrize("spec", ["mlp:4x1", "vgg:0.1", "convnet:0.1"])
def test_dropout_range(spec, dropout):
    with pytest.raises(ValueError, match="dropout"):
        models.build(spec, (1, 8, 8), 2, dropout=dropout)


@pytest.mark.parametrize("spec", CONVOLUTIONAL)
@pytest.mark.parametrize("input_shape", SHAPES)
def test_weights_of_convolutional_networks(spec, input_shape):
    with torch.device("meta"):
        model = models.build(spec, input_shape, 7)
        assert model(torch.zeros(5, *input_shape)).shape == (5, 7)
    names = binary_parameters(model)
    parameters = dict(model.named_parameters())
    wanted = weight_shapes(spec, input_shape, 7)
    assert [tuple(parameters[name].shape) for name in names] == wanted
    assert set(parameters) - set(names) == {"output_scale.scale"}


def test_number_of_parameters_of_the_papers_network_on_cifar():
    # As the authors' code prints it for CIFAR-10, plus our output scale.
    convolutions = 9 * (3 * 128 + 128**2 + 128 * 256 + 256**2 + 256 * 512 + 512**2)
    connected = 512 * 4 * 4 * 1024 + 1024**2 + 1024 * 10
    with torch.device("meta"):
        model = models.VGG((3, 32, 32), 10)
    assert sum(p.numel() for p in model.parameters()) == convolutions + connected + 1


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ("vgg:0.01", [*(f"conv{i}" for i in range(1, 7)), "linear7", "linear8", "output"]),
        ("convnet:0.01", ["conv1", "conv2", "linear3", "output"]),
        ("mlp:4x2", ["linear1", "linear2", "output"]),
    ],
)
def test_names_stand_in_files_and_stay(spec, names):
    model = models.build(spec, (1, 8, 8), 2)
    assert binary_parameters(model) == [f"{name}.weight" for name in names]
    norms = [f"norm{i}" for i in range(1, len(names))] + ["output_norm"]
    assert [n for n, m in model.named_modules() if hasattr(m, "running_var")] == norms
    linear = [f"dropout{name[6:]}" for name in names if name.startswith("linear")]
    assert [n for n, m in model.named_modules() if isinstance(m, nn.Dropout)] == linear


@pytest.mark.parametrize(("spec", "pooled"), [("vgg:0.02", {1, 3, 5}), ("convnet:0.1", {0, 1})])
@pytest.mark.parametrize("training", [True, False])
def test_forward_pass_is_the_papers(spec, pooled, training):
    # Written out after the authors' VGGBinaryConnect: convolution, maximum, BatchNorm, ReLU.
    torch.manual_seed(0)
    model = models.build(spec, (2, 9, 12), 3, dropout=0.0).double().train(training)
    model.output_scale.scale.data.fill_(1.7)
    x = torch.randn(6, 2, 9, 12, dtype=torch.float64)
    weights = [parameter for name, parameter in model.named_parameters() if "weight" in name]
    expected = x
    for i, weight in enumerate(weights):
        if weight.ndim == 4:
            expected = functional.conv2d(expected, weight, padding=1)
            if i in pooled:
                expected = functional.max_pool2d(expected, 2, 2)
        else:
            expected = expected.flatten(1) @ weight.T
        if training:
            axes = [axis for axis in range(expected.ndim) if axis != 1]
            mean = expected.mean(axes, keepdim=True)
            expected = (expected - mean) / (
                expected.var(axes, correction=0, keepdim=True) + 1e-4
            ).sqrt()
        else:
            expected = expected / (1 + 1e-4) ** 0.5  # the initial statistics are 0 and 1
        if i < len(weights) - 1:
            expected = expected.relu()
    torch.testing.assert_close(model(x), 1.7 * expected)


@pytest.mark.parametrize("spec", ["vgg:0.05", "convnet:0.25"])
@pytest.mark.parametrize("input_shape", SHAPES[:3])
def test_every_parameter_gets_a_gradient(spec, input_shape):
    torch.manual_seed(0)
    model = models.build(spec, input_shape, 4)
    logits = model(torch.randn(8, *input_shape))
    assert logits.shape == (8, 4)
    functional.cross_entropy(logits, torch.arange(8) % 4).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize(("spec", "smallest"), [("vgg:0.01", 8), ("convnet:0.01", 4)])
def test_images_that_are_too_small(spec, smallest):
    models.build(spec, (1, smallest, smallest), 2)
    shapes = [(1, smallest - 1, 28), (1, 28, smallest - 1), (28, 28), (784,), (), (2, 1, 28, 28)]
    for shape in shapes:
        with pytest.raises(ValueError, match=f"H and W at least {smallest}, got") as caught:
            models.build(spec, shape, 2)
        assert str(shape) in str(caught.value)
        assert "use an MLP" in str(caught.value)
    with pytest.raises(ValueError, match="every entry of input_shape must be at least 1, got 0"):
        models.build(spec, (0, 28, 28), 2)


@pytest.mark.parametrize(
    ("spec", "built_in"),
    [
        ("mlp:256x3", True),
        ("mlp", True),
        ("vgg", True),
        ("vgg:0.5", True),
        ("convnet:wrong", True),
        ("nets:vgg", False),
        ("vgg.nets:factory", False),
        ("", False),
    ],
)
def test_built_in_names(spec, built_in):
    assert models.is_built_in(spec) is built_in

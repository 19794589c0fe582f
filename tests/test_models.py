import pytest
import torch
from torch import nn

from bbnn_uq import models


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


@pytest.mark.parametrize("spec", ["mlp", "mlp:", "mlp:0x2", "mlp:3x0", "resnet", "mlp:3x-1"])
def test_unknown_names_are_refused(spec):
    with pytest.raises(ValueError, match=r"mlp:256x3|hidden_sizes"):
        models.build(spec, (4,), 2)


@pytest.mark.parametrize("dropout", [-0.1, 1.0])
def test_dropout_range(dropout):
    with pytest.raises(ValueError, match="dropout"):
        models.build("mlp:4x1", (4,), 2, dropout=dropout)

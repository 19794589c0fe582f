"""Tests use small tensors, on which threads cost more than they bring."""

import torch

torch.set_num_threads(1)

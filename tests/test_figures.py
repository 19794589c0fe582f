"""The scripts of docs/figures: that they draw their figure and print their tables."""

import importlib.util
import math
from pathlib import Path

import pytest
import torch

from bbnn_uq import BayesBiNN, BernoulliPosterior

FOLDER = Path(__file__).parent.parent / "docs" / "figures"
NETWORKS = {
    "STE-Adam",
    "paper's recipe, mode",
    "paper's recipe, mean",
    "straight-through, mode",
    "straight-through, mean",
}


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))  # as python sets it for a script

    def load(name):
        spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def tables(text):
    """Each Markdown table as row name → column name → number."""
    found = []
    for block in text.strip().split("\n\n"):
        lines = block.splitlines()
        if lines[0].startswith("|"):
            header, _, *rows = [[c.strip() for c in line.strip("|").split("|")] for line in lines]
            found.append(
                {
                    name: dict(zip(header[1:], map(float, values), strict=True))
                    for name, *values in rows
                }
            )
    return found


@pytest.mark.parametrize(
    ("name", "picture"),
    [("two_moons", "two-moons.png"), ("regression_1d", "regression-1d.png")],
)
def test_a_script_draws_its_figure_and_prints_its_tables(
    name, picture, script, tmp_path, capsys, monkeypatch
):
    module = script(name)
    monkeypatch.setattr(module.toy, "NETWORKS", 4)
    module.main(["--steps", "20", "--seed", "3", "--out", str(tmp_path / "new")])
    drawn = (tmp_path / "new" / picture).read_bytes()
    assert drawn.startswith(b"\x89PNG")
    networks, posteriors = tables(capsys.readouterr().out)
    assert networks.keys() == NETWORKS
    assert posteriors.keys() == {"paper's recipe", "straight-through"}
    assert all(math.isfinite(value) for row in networks.values() for value in row.values())
    if name == "two_moons":
        assert all(0 <= row["accuracy"] <= 1 for row in networks.values())
        assert networks["STE-Adam"]["disagreement far away (nats)"] == 0
    else:
        assert networks["STE-Adam"]["epistemic std, gap"] == 0
        assert networks["straight-through, mean"]["epistemic std, gap"] > 0
        assert all(0 <= row["targets within ±2 std"] <= 1 for row in networks.values())


def test_the_overview_is_drawn(script, tmp_path):
    script("overview").main(["--epochs", "1", "--out", str(tmp_path)])
    assert (tmp_path / "overview.png").read_bytes().startswith(b"\x89PNG")
    readme = (FOLDER.parent.parent / "README.md").read_text(encoding="utf-8")
    assert "(docs/figures/overview.png)" in readme


@pytest.mark.parametrize("picture", ["two-moons.png", "regression-1d.png"])
def test_the_figures_of_the_page_are_there_and_small(picture):
    page = (FOLDER.parent / "paper.md").read_text(encoding="utf-8")
    assert f"(figures/{picture})" in page
    assert 10_000 < (FOLDER / picture).stat().st_size <= 200_000


def test_lambda_without_data_is_what_the_rule_gives_on_a_constant_loss(script):
    """20 steps of BayesBiNN itself, with the schedule of fit and a gradient of 0."""
    toy = script("toy")
    recipe = toy.recipes(20)["paper's recipe"]
    weight = torch.nn.Parameter(torch.zeros(3))
    optimizer = BayesBiNN([("w", weight)], num_data=1, **recipe)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)

    def constant():
        loss = 0.0 * weight.sum()
        loss.backward()
        return loss.detach()

    for _ in range(20):
        optimizer.step(constant)
        schedule.step()
    posterior = BernoulliPosterior(optimizer.natural_param, {}, {"recipe": recipe})
    found = toy.stopped_early(posterior, 20)
    assert found["abs λ without data"] == pytest.approx(found["median abs λ"], rel=1e-5)
    assert found["weights within 10 % of that"] == 1

"""The scikit-learn estimators beside scikit-learn's own, on its tables.

    .venv/bin/python -W ignore tests/benchmarks/sklearn_estimators.py            # what is reported
    .venv/bin/python -W ignore tests/benchmarks/sklearn_estimators.py --choose   # how defaults came

Each table is cut in two halves. Defaults were chosen by 3-fold cross-validation within the first
halves and on simulated tables (``--choose``). What is reported is of the second halves: 5 folds of
a second half are predicted in turn, by estimators trained on the other four and the first half,
three seeds each. All estimators have their defaults, behind a StandardScaler; the MLPs only run
until they have converged. The noise of an MLPRegressor is that of its training residuals. ``±`` is
the standard error over inputs, of losses that are averaged over seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn import datasets
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import BayesianRidge, LogisticRegression
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bbnn_uq import metrics
from bbnn_uq.sklearn_api import BayesBiNNClassifier, BayesBiNNRegressor

Table = tuple[np.ndarray, np.ndarray]
SEEDS = 3
CLASSES = {
    "digits": datasets.load_digits,
    "breast_cancer": datasets.load_breast_cancer,
    "wine": datasets.load_wine,
}
CLASSIFIERS: dict[str, Callable[[int], Any]] = {
    "BayesBiNNClassifier": lambda seed: BayesBiNNClassifier(random_state=seed),
    "MLPClassifier": lambda seed: MLPClassifier(max_iter=1000, random_state=seed),
    "LogisticRegression": lambda seed: LogisticRegression(max_iter=1000),
}
REGRESSORS: dict[str, Callable[[int], Any]] = {
    "BayesBiNNRegressor": lambda seed: BayesBiNNRegressor(random_state=seed),
    "MLPRegressor": lambda seed: MLPRegressor(max_iter=5000, random_state=seed),
    "GaussianProcessRegressor": lambda seed: GaussianProcessRegressor(
        ConstantKernel() * RBF() + WhiteKernel(), normalize_y=True, random_state=seed
    ),
    "BayesianRidge": lambda seed: BayesianRidge(),
}
CHOICES: list[dict[str, Any]] = [
    {},
    {"kl_weight": 0.003},
    {"kl_weight": 0.02},
    {"kl_weight": 0.03},
    {"lr": 0.3},
    {"real_lr": 0.01},
    {"dropout": 0.1},
    {"hidden_layer_sizes": (64, 64)},
    {"gradient_estimator": "local"},
]


def halves(load: Callable[..., Any], *, classes: bool) -> tuple[Table, Table]:
    x, y = load(return_X_y=True)
    first, second = train_test_split(
        np.arange(len(y)), test_size=0.5, random_state=0, stratify=y if classes else None
    )
    return (x[first], y[first]), (x[second], y[second])


def log_probs(model: Any, x: np.ndarray) -> np.ndarray:
    return np.log(np.clip(model.predict_proba(x), 1e-15, None))


def gaussian(model: Any, train: Table, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of new targets."""
    try:
        return model.predict(x, return_std=True)
    except TypeError:
        mean = model.predict(x)
        return mean, np.full(len(mean), (model.predict(train[0]) - train[1]).std())


def out_of_fold(
    make: Callable[[int], Any], load: Callable[..., Any], *, classes: bool, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Log probabilities, or mean and std side by side, of the second half; and its targets."""
    (first_x, first_y), (x, y) = halves(load, classes=classes)
    folds = (StratifiedKFold if classes else KFold)(5, shuffle=True, random_state=0)
    found: list[Any] = [None] * len(y)
    for rest, fold in folds.split(x, y):
        train = np.concatenate([first_x, x[rest]]), np.concatenate([first_y, y[rest]])
        model = make_pipeline(StandardScaler(), make(seed)).fit(*train)
        if classes:
            rows = log_probs(model, x[fold])
        else:
            rows = np.stack(gaussian(model, train, x[fold]), axis=1)
        for i, row in zip(fold, rows, strict=True):
            found[i] = row
    return np.stack(found), y


def mean_and_error(losses: np.ndarray, digits: int = 3, scale: float = 1.0) -> str:
    """Of losses (seeds, inputs)."""
    each = scale * losses.mean(axis=0)
    error = each.std(ddof=1) / np.sqrt(len(each))
    return f"{each.mean():.{digits}f} ± {error:.{digits}f}"


def report() -> None:
    print("| table | estimator | accuracy % | NLL, nats | ECE % |\n|---|---|---|---|---|")
    for table, load in CLASSES.items():
        for name, make in CLASSIFIERS.items():
            runs = [out_of_fold(make, load, classes=True, seed=s) for s in range(SEEDS)]
            y = runs[0][1]
            right = np.stack([logs.argmax(axis=1) == y for logs, _ in runs])
            nll = np.stack([-logs[np.arange(len(y)), y] for logs, _ in runs])
            probs = [np.exp(logs) for logs, _ in runs]
            ece = np.mean([metrics.ece(p / p.sum(axis=1, keepdims=True), y) for p in probs])
            cells = [mean_and_error(right, 1, 100.0), mean_and_error(nll), f"{100 * ece:.1f}"]
            print(f"| {table} | `{name}` | " + " | ".join(cells) + " |", flush=True)
    print("\n| table | estimator | RMSE | NLL, nats | share within 95 % intervals |")
    print("|---|---|---|---|---|")
    for name, make in REGRESSORS.items():
        runs = [
            out_of_fold(make, datasets.load_diabetes, classes=False, seed=s) for s in range(SEEDS)
        ]
        y = runs[0][1]
        z = np.stack([(y - rows[:, 0]) / rows[:, 1] for rows, _ in runs])
        std = np.stack([rows[:, 1] for rows, _ in runs])
        nll = 0.5 * z**2 + np.log(std) + 0.5 * np.log(2 * np.pi)
        rmse = np.sqrt(np.mean([(y - rows[:, 0]) ** 2 for rows, _ in runs]))
        inside = np.mean(np.abs(z) < 1.96)
        print(f"| diabetes | `{name}` | {rmse:.1f} | {mean_and_error(nll)} | {inside:.2f} |")


def sizes() -> None:
    """Few inputs and many: 20 of breast_cancer, and 50,000 of a simulated table."""
    print("\n| training inputs | estimator | accuracy % | NLL, nats |\n|---|---|---|---|")
    (first_x, first_y), test = halves(datasets.load_breast_cancer, classes=True)
    draws = [
        train_test_split(first_x, first_y, train_size=20, random_state=s, stratify=first_y)
        for s in range(10)
    ]
    few = [((x, y), test) for x, _, y, _ in draws]
    x, y = datasets.make_hastie_10_2(60_000, random_state=0)
    many = [((x[:50_000], y[:50_000] > 0), (x[50_000:], y[50_000:] > 0))]
    boosting = {"HistGradientBoostingClassifier": lambda seed: HistGradientBoostingClassifier()}
    for label, problems in (("20 (breast_cancer)", few), ("50,000 (simulated)", many)):
        for name, make in (CLASSIFIERS | boosting).items():
            accuracy, nll = [], []
            for seed, (train, (test_x, test_y)) in enumerate(problems):
                model = make_pipeline(StandardScaler(), make(seed)).fit(*train)
                logs = log_probs(model, test_x)
                labels = test_y.astype(int)
                accuracy.append(np.mean(logs.argmax(axis=1) == labels))
                nll.append(-logs[np.arange(len(labels)), labels].mean())
            cells = f"{100 * np.mean(accuracy):.1f} | {np.mean(nll):.3f}"
            print(f"| {label} | `{name}` | {cells} |", flush=True)


def development_tables() -> dict[str, tuple[bool, Table]]:
    """Name → whether it has classes, and its data. No second half of a table is among them."""
    generator = np.random.default_rng(0)
    x = generator.uniform(-3, 3, size=(100, 1))
    wave = x, np.sin(2 * x[:, 0]) + 0.2 * generator.normal(size=100)
    make = datasets.make_classification
    classes: dict[str, Table] = {
        "breast_cancer": halves(datasets.load_breast_cancer, classes=True)[0],
        "wine": halves(datasets.load_wine, classes=True)[0],
        "20 inputs": make(20, 5, n_informative=3, class_sep=1.5, random_state=0),
        "rare class": make(800, 20, n_informative=4, weights=[0.93], random_state=1),
        "35 of 40 useless": make(
            400, 40, n_informative=5, n_redundant=0, n_classes=3, random_state=2
        ),
    }
    targets: dict[str, Table] = {
        "diabetes": halves(datasets.load_diabetes, classes=False)[0],
        "sine": wave,
        "friedman1": datasets.make_friedman1(300, noise=1.0, random_state=0),
        "20 linear": datasets.make_regression(20, 3, noise=10, random_state=0),
    }
    return {k: (True, v) for k, v in classes.items()} | {k: (False, v) for k, v in targets.items()}


def choose() -> None:
    """NLL by 3-fold cross-validation; of real targets in units of their standard deviation."""
    tables = development_tables()
    print("| change | " + " | ".join(tables) + " |\n|---" + "|---" * len(tables) + "|")
    for choice in CHOICES:
        cells = []
        for classes, (x, y) in tables.values():
            target = np.unique(y, return_inverse=True)[1] if classes else (y - y.mean()) / y.std()
            folds = (StratifiedKFold if classes else KFold)(3, shuffle=True, random_state=0)
            losses = []
            for seed, (train, test) in enumerate(folds.split(x, target)):
                options = choice | {"random_state": seed}
                if classes:
                    model = BayesBiNNClassifier(**options).fit(x[train], target[train])
                    losses.append(metrics.nll(model.predict_proba(x[test]), target[test]))
                else:
                    regressor = BayesBiNNRegressor(**options).fit(x[train], target[train])
                    mean, std = regressor.predict(x[test], return_std=True)
                    losses.append(metrics.gaussian_nll(mean, std, target[test]))
            cells.append(f"{np.mean(losses):.3f}")
        change = ", ".join(f"`{key}={value}`" for key, value in choice.items()) or "none"
        print(f"| {change} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--choose", action="store_true", help="the development tables instead")
    torch.set_num_threads(1)
    if parser.parse_args().choose:
        choose()
    else:
        report()
        sizes()


if __name__ == "__main__":
    main()

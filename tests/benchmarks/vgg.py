"""The paper's VGG with random crops and flips: BayesBiNN beside STE-Adam.

    .venv/bin/python tests/benchmarks/vgg.py --data fashion-mnist --width 0.25 --out runs/vgg.json
    .venv/bin/python tests/benchmarks/vgg.py --data cifar10 --folder DIR --epochs 500 \
        --out runs/vgg-cifar10.json

DIR holds the binary version of CIFAR-10 or CIFAR-100. Width 1 and batches of 50 are the paper's, as
is counting each image of CIFAR ten times for its augmentation (Meng, Bachmann, Khan 2020, appendix
B). Everything else of BayesBiNN is a default of `fit`, dropout 0.1 a default of the model.

Both rows have the model, the order of the data, the crops and flips, the number of epochs and a
cosine schedule in common, and a tenth of the training images is held out from both; STE-Adam keeps
the epoch with the lowest NLL on it. Seconds are those of training alone. A row is written when it
is done, and BayesBiNN has a checkpoint beside the file after each epoch: the same command goes on
where it stopped.
"""

from __future__ import annotations

import argparse
import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from continual import machine
from vgg_ste import train_ste

import bbnn_uq
from bbnn_uq import Predictive, metrics, models
from bbnn_uq._files import atomic_path
from bbnn_uq.augment import RandomCropFlip
from bbnn_uq.data import ArrayData, cifar10, cifar100, load_data

NUM_NETWORKS = 32
READERS = {"cifar10": cifar10, "cifar100": cifar100}
PADDING = {"fashion-mnist": 2, "cifar10": 4, "cifar100": 4}
FACTOR = {"fashion-mnist": 1, "cifar10": 10, "cifar100": 10}  # copies that an image counts as
SETTING = ("data", "epochs", "width", "seed", "batch_size", "lr", "ste_lr")


def load(arguments: Namespace) -> tuple[ArrayData, ArrayData]:
    if arguments.data in READERS:
        reader = READERS[arguments.data]
        return reader(arguments.folder, split="train"), reader(arguments.folder, split="test")
    return load_data("fashion-mnist", split="train"), load_data("fashion-mnist", split="test")


def split(data: ArrayData, seed: int) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Nine tenths for training and one tenth for validation."""
    assert data.y is not None
    order = np.random.default_rng(seed).permutation(len(data.x))
    held_out, kept = np.split(order, [max(1, len(order) // 10)])
    return (data.x[kept], data.y[kept]), (data.x[held_out], data.y[held_out])


class Benchmark:
    """The data of a setting, and a method for each row."""

    def __init__(self, arguments: Namespace) -> None:
        self.arguments = arguments
        whole, self.test = load(arguments)
        self.train, self.validation = split(whole, arguments.seed)
        self.classes = whole.num_classes
        self.augment = RandomCropFlip(PADDING[arguments.data])
        self.ood = {}
        if arguments.data == "fashion-mnist":
            self.ood["mnist-5k"] = load_data("mnist-5k", split="test").x

    def model(self) -> torch.nn.Module:
        torch.manual_seed(self.arguments.seed)
        assert self.classes is not None
        return models.VGG(self.test.input_shape, self.classes, width=self.arguments.width)

    def bayesbinn(self) -> dict[str, Any]:
        arguments, history = self.arguments, []

        def on_epoch(record: dict[str, Any]) -> None:
            history.append(record)
            print("BayesBiNN", record, flush=True)

        posterior = bbnn_uq.fit(
            self.model(), self.train, epochs=arguments.epochs, batch_size=arguments.batch_size,
            lr=arguments.lr, normalise=True, seed=arguments.seed, augment=self.augment,
            num_data=FACTOR[arguments.data] * len(self.train[0]), on_epoch=on_epoch,
            checkpoint_dir=arguments.out and arguments.out.with_suffix(".checkpoint"),
        )  # fmt: skip

        def predict(method: str, x: np.ndarray) -> Predictive:
            return bbnn_uq.predict(
                self.model(), posterior, x, method=method, num_samples=NUM_NETWORKS,
                precision="float32",
            )  # fmt: skip

        return {
            "mean of networks": self.evaluated(lambda x: predict("monte_carlo", x)),
            "mode": self.evaluated(lambda x: predict("mode", x)),
            "bits_per_weight": posterior.bits_per_weight(),
            "seconds": sum(record["seconds"] for record in history),
            "history": history,
        }

    def ste(self) -> dict[str, Any]:
        arguments = self.arguments
        probabilities, facts = train_ste(
            self.model(), self.train, self.validation, self.augment, epochs=arguments.epochs,
            batch_size=arguments.batch_size, lr=arguments.ste_lr, seed=arguments.seed,
        )  # fmt: skip
        return {
            "network": self.evaluated(lambda x: Predictive.from_samples(probabilities(x)[None])),
            "bits_per_weight": 0.0,  # entropy of a point estimate
            **facts,
        }

    def evaluated(self, predict: Any) -> dict[str, float]:
        inside, (x, labels) = predict(self.test.x), self.validation
        held_out = predict(x)
        result = {
            "accuracy": metrics.accuracy(inside.probs, self.test.y),
            "nll": metrics.nll(inside.probs, self.test.y),
            "ece": metrics.ece(inside.probs, self.test.y),
            "validation_accuracy": metrics.accuracy(held_out.probs, labels),
            "validation_nll": metrics.nll(held_out.probs, labels),
        }
        scores = ("entropy", "mutual_information") if inside.num_samples > 1 else ("entropy",)
        for name, inputs in self.ood.items():
            outside = predict(inputs)
            for score in scores:
                found = metrics.ood_metrics(inside.score(score), outside.score(score))
                result[f"auroc_{score}_{name}"] = found.auroc
        return result


def complete(arguments: Namespace) -> dict[str, Any]:
    """Run the rows that the file lacks, and write it after each."""
    setting = {name: getattr(arguments, name) for name in SETTING}
    state: dict[str, Any] = {"setting": setting, "machine": machine(), "rows": {}}
    if arguments.out is not None and arguments.out.exists():
        state = json.loads(arguments.out.read_text())
        if state["setting"] != setting:
            raise SystemExit(f"{arguments.out} holds {state['setting']}; name another file")
    benchmark = Benchmark(arguments)
    for name, run in {"BayesBiNN": benchmark.bayesbinn, "STE-Adam": benchmark.ste}.items():
        if name not in state["rows"]:
            state["rows"][name] = run()
            if arguments.out is not None:
                with atomic_path(arguments.out) as temporary:
                    temporary.write_text(json.dumps(state, indent=1) + "\n")
    return state


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=tuple(PADDING), default="fashion-mnist")
    parser.add_argument("--folder", type=Path, help="of CIFAR's files")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--width", type=float, default=1.0, help="of the VGG; the paper's is 1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--lr", type=float, default=0.1, help="of BayesBiNN")
    parser.add_argument("--ste-lr", type=float, default=3e-3, help="of STE-Adam")
    parser.add_argument("--out", type=Path, help="JSON file of the rows, added to")
    arguments = parser.parse_args()
    if (arguments.folder is None) != (arguments.data == "fashion-mnist"):
        parser.error("--folder goes with --data cifar10 and --data cifar100, and only with them")
    state = complete(arguments)
    print(f"{state['setting']}; {state['machine']}")
    for name, row in state["rows"].items():
        print(f"{name}: {row['bits_per_weight']:.3f} bits per weight, {row['seconds']:.0f} s")
        for kind in ("mean of networks", "mode", "network"):
            if kind in row:
                values = {key: round(value, 4) for key, value in row[kind].items()}
                print(f"  {kind}: {values}")


if __name__ == "__main__":
    main()

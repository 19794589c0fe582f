"""Examples of a report: which inputs are chosen, and that no others are read."""

import json

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from bbnn_uq import Predictive, evaluate
from bbnn_uq.examples import select_examples


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr("bbnn_uq.report.NUM_RESAMPLES", 20)


SHARES = np.array([0.5, 0.9, 0.6, 0.5, 0.7, 0.9, 0.5, 0.8])  # of class 0: ties at both ends
PREDICTIVE = Predictive.from_probs(np.stack([SHARES, 1 - SHARES], axis=1))


def with_energy(energy):
    count = len(energy)
    return Predictive(
        np.full((count, 2), 0.5), None, None, np.asarray(energy, float), 1, 0, "monte_carlo"
    )


class Recorder(Dataset):
    """Inputs that are made when they are asked for, and a list of those that were."""

    def __init__(self, length):
        self.length, self.read = length, []

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        self.read.append(index)
        return np.full((1, 2, 2), index, np.float32)


# --- which --------------------------------------------------------------------------------------


def test_the_most_uncertain_come_first_and_ties_by_position():
    found = select_examples(PREDICTIVE, "confidence", highest=True, most=5)
    assert found.index.tolist() == [0, 3, 6, 2, 4]
    assert found.values.tolist() == [-0.5, -0.5, -0.5, -0.6, -0.7]  # the score: negated
    assert found.confidence.tolist() == [0.5, 0.5, 0.5, 0.6, 0.7]
    lowest = select_examples(PREDICTIVE, "confidence", highest=False, most=3)
    assert lowest.index.tolist() == [1, 5, 7]
    assert (found.highest, lowest.highest, len(lowest)) == (True, False, 3)


@pytest.mark.parametrize("highest", [True, False])
def test_ties_at_the_bound_are_those_of_a_full_sort(highest):
    energy = np.random.default_rng(0).integers(4, size=400)
    found = select_examples(with_energy(energy), "energy", highest=highest)
    ordered = sorted(range(400), key=lambda i: (-energy[i] if highest else energy[i], i))
    assert found.index.tolist() == ordered[:24]


def test_there_are_no_more_than_the_set_has():
    assert len(select_examples(PREDICTIVE, "entropy", highest=True)) == 8


def test_inputs_without_a_value_are_left_out_and_infinite_ones_are_not():
    predictive = with_energy([np.nan, 1.0, np.inf, np.nan, 2.0])
    for highest, wanted in ((True, [2, 4, 1]), (False, [1, 4, 2])):
        assert select_examples(predictive, "energy", highest=highest).index.tolist() == wanted
        assert len(select_examples(predictive, "energy", highest=highest, most=2)) == 2


def test_classes_and_labels_are_those_of_the_inputs():
    probs = np.random.default_rng(1).dirichlet(np.ones(3), 50)
    labels = np.arange(50) % 3
    found = select_examples(Predictive.from_probs(probs), "margin", highest=True, labels=labels)
    np.testing.assert_array_equal(found.predicted, probs[found.index].argmax(axis=1))
    np.testing.assert_array_equal(found.labels, labels[found.index])
    assert select_examples(PREDICTIVE, "margin", highest=False).labels is None


# --- inputs -------------------------------------------------------------------------------------


def test_only_the_chosen_inputs_are_read_once_each():
    inputs, outside = Recorder(200), Recorder(100)
    probs = np.random.default_rng(2).dirichlet(np.ones(3), 200)
    report = evaluate(
        Predictive.from_probs(probs),
        np.zeros(200, int),
        ood={"far": Predictive.from_probs(probs[:100])},
        inputs=inputs,
        ood_inputs={"far": outside},
    )
    for recorder, key in ((inputs, "id"), (outside, "ood/far")):
        examples = report.examples[key]
        assert recorder.read == examples.index.tolist()
        assert [item[0, 0, 0] for item in examples.inputs] == examples.index.tolist()


def test_arrays_tensors_datasets_and_mapped_files_give_the_same_inputs(tmp_path):
    values = np.random.default_rng(3).integers(255, size=(8, 2, 3), dtype=np.uint8)
    np.save(tmp_path / "x.npy", values)
    tensor = torch.from_numpy(values.copy())
    kinds = [
        values,
        values.tolist(),
        tensor,
        TensorDataset(tensor, torch.arange(8)),
        np.load(tmp_path / "x.npy", mmap_mode="r"),
    ]
    for kind in kinds:
        found = select_examples(PREDICTIVE, "entropy", highest=True, inputs=kind, most=3)
        np.testing.assert_array_equal(np.stack(found.inputs), values[[0, 3, 6]])
        assert all(item.base is None for item in found.inputs)  # no view of the file
    assert found.inputs[0].dtype == np.uint8


def test_the_report_takes_its_first_score_and_both_ends():
    far = Predictive.from_probs(PREDICTIVE.probs[::-1])
    report = evaluate(PREDICTIVE, np.arange(8) % 2, ood={"far": far}, scores=["margin", "entropy"])
    inside, outside = report.examples["id"], report.examples["ood/far"]
    assert (inside.score, inside.highest, outside.score, outside.highest) == (
        "margin", True, "margin", False
    )  # fmt: skip
    assert inside.index.tolist() == [0, 3, 6, 2, 4, 7, 1, 5]
    assert outside.index.tolist() == [2, 6, 0, 3, 5, 1, 4, 7]
    np.testing.assert_array_equal(inside.labels, inside.index % 2)
    assert outside.labels is None
    assert inside.inputs is None


def test_report_json_holds_all_but_the_inputs():
    report = evaluate(PREDICTIVE, np.zeros(8, int), scores=["entropy"], inputs=np.zeros((8, 4)))
    found = json.loads(report.to_json())["examples"]["id"]
    assert set(found) == {
        "score", "highest", "index", "values", "predicted", "confidence", "labels"
    }  # fmt: skip
    assert found["index"] == [0, 3, 6, 2, 4, 7, 1, 5]
    assert found["values"][0] == pytest.approx(np.log(2))
    assert found["labels"] == [0] * 8


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"inputs": np.zeros((7, 2))}, ValueError, "inputs must hold .* 8 rows.* got 7"),
        ({"ood_inputs": {"far": [1]}}, ValueError, r"ood_inputs\['far'\] must hold .* 8 .*got 1"),
        ({"ood_inputs": {"fra": [1]}}, ValueError, "ood_inputs must be .*did you mean 'far'"),
        ({"ood_inputs": [1]}, TypeError, "ood_inputs must be a dictionary"),
        ({"inputs": iter([1])}, TypeError, "inputs must have a length"),
        (
            {"inputs": DataLoader(TensorDataset(torch.zeros(8, 2)))},
            TypeError,
            "DataLoader, pass its dataset",
        ),
        ({"class_names": ["a"]}, ValueError, "one name for each of the 2 classes, got 1"),
        ({"class_names": "ab"}, TypeError, "class_names must be a list"),
        ({"class_names": [0, 1]}, TypeError, "class_names must hold strings"),
    ],
)
def test_what_does_not_fit_is_named(options, error, match):
    with pytest.raises(error, match=match):
        evaluate(PREDICTIVE, np.zeros(8, int), ood={"far": PREDICTIVE}, **options)

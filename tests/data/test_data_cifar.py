from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bbnn_uq.data import ArrayData, cifar10, cifar100

TRAIN_FILES = [f"data_batch_{number}.bin" for number in (1, 2, 3, 4, 5)]
READERS = {"cifar-10": cifar10, "cifar-100": cifar100}
TEST_FILES = {"cifar-10": "test_batch.bin", "cifar-100": "test.bin"}
LABELS = {"cifar-10": [3], "cifar-100": [11, 57]}  # the bytes before an image
ARCHIVES = {"cifar-10": "cifar-10-binary.tar.gz", "cifar-100": "cifar-100-binary.tar.gz"}
SUBFOLDERS = {"cifar-10": "cifar-10-batches-bin", "cifar-100": "cifar-100-binary"}
SETS = pytest.mark.parametrize("name", list(READERS))


def record(labels: list[int], **pixels: int) -> bytes:
    """The bytes of one image, black but for pixels such as ``red_2_31``: row 2, column 31."""
    image = bytearray(3072)
    for place, value in pixels.items():
        colour, row, column = place.split("_")
        plane = ["red", "green", "blue"].index(colour)
        image[1024 * plane + 32 * int(row) + int(column)] = value
    return bytes(labels) + bytes(image)


def write_train(folder: Path, name: str) -> None:
    """Two images in each training file, the labels counting on from file to file."""
    if name == "cifar-100":
        (folder / "train.bin").write_bytes(b"".join(record([19, 90 + i]) for i in range(10)))
    for number, file in enumerate(TRAIN_FILES if name == "cifar-10" else []):
        content = record([2 * number], blue_0_0=number) + record([2 * number + 1])
        (folder / file).write_bytes(content)


def message_of(name: str, folder: Path, split: str = "test") -> str:
    """The error of reading the folder, which must name the set's archive and fit one line."""
    with pytest.raises(ValueError, match=ARCHIVES[name].replace(".", r"\.")) as caught:
        READERS[name](folder, split=split)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert "\n" not in str(caught.value)
    assert "https://www.cs.toronto.edu/~kriz/cifar.html" in str(caught.value)
    return str(caught.value)


@SETS
def test_every_byte_of_a_record_has_its_place(tmp_path: Path, name: str) -> None:
    content = record(LABELS[name], red_0_0=255, red_2_31=51, green_31_0=102, blue_31_31=1)
    (tmp_path / TEST_FILES[name]).write_bytes(content + record(LABELS[name], green_0_1=254))
    data = READERS[name](str(tmp_path), split="test")
    expected = np.zeros((2, 3, 32, 32), np.float32)
    expected[0, 0, 0, 0] = 1.0
    expected[0, 0, 2, 31] = 0.2
    expected[0, 1, 31, 0] = 0.4
    expected[0, 2, 31, 31] = 1 / 255
    expected[1, 1, 0, 1] = 254 / 255
    np.testing.assert_array_equal(data.x, expected)
    assert data.x.dtype == np.float32
    assert data.x.flags.c_contiguous
    assert data.x.flags.writeable
    assert data.y is not None
    assert (data.y.dtype, data.y.tolist()) == (np.int64, [LABELS[name][-1]] * 2)
    assert (data.name, data.num_classes) == (name, {"cifar-10": 10, "cifar-100": 100}[name])
    assert data.input_shape == (3, 32, 32)


def test_training_files_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    write_train(tmp_path, "cifar-10")
    data = cifar10(tmp_path, split="train")
    assert data.y is not None
    assert data.y.tolist() == list(range(10))
    assert np.rint(data.x[::2, 2, 0, 0] * 255).tolist() == [0, 1, 2, 3, 4]


def test_files_may_differ_in_length(tmp_path: Path) -> None:
    write_train(tmp_path, "cifar-10")
    (tmp_path / TRAIN_FILES[2]).write_bytes(record([9]) * 3)
    data = cifar10(tmp_path, split="train")
    assert data.y is not None
    assert data.y.tolist() == [0, 1, 2, 3, 9, 9, 9, 6, 7, 8, 9]


@SETS
def test_splits_are_read_apart_and_from_the_archives_subfolder(tmp_path: Path, name: str) -> None:
    subfolder = tmp_path / SUBFOLDERS[name]
    subfolder.mkdir()
    write_train(subfolder, name)
    (subfolder / TEST_FILES[name]).write_bytes(record(LABELS[name]))

    def sizes(folder: Path) -> list[int]:
        parts: list[ArrayData] = [READERS[name](folder, split=s) for s in ("train", "test")]
        return [len(part.x) for part in parts]

    assert sizes(tmp_path) == sizes(subfolder) == [10, 1]
    (tmp_path / TEST_FILES[name]).write_bytes(record(LABELS[name]) * 2)
    assert sizes(tmp_path) == [10, 2]  # the folder itself comes first


@SETS
def test_largest_labels_and_the_first_that_is_too_large(tmp_path: Path, name: str) -> None:
    largest = {"cifar-10": [9], "cifar-100": [19, 99]}[name]
    path = tmp_path / TEST_FILES[name]
    path.write_bytes(record(largest))
    data = READERS[name](tmp_path, split="test")
    assert data.y is not None
    assert data.y.tolist() == [largest[-1]]
    for place in range(len(largest)):
        wrong = list(largest)
        wrong[place] += 1
        path.write_bytes(record(largest) * 2 + record(wrong) + record([255] * len(wrong)))
        message = message_of(name, tmp_path)
        assert repr(str(path)) in message
        expected = f"record 2 has the label {wrong[place]}, wanted is one below {wrong[place]};"
        assert expected in message


@SETS
def test_unknown_split(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="split must be one of train, test, got 'val'"):
        READERS[name](tmp_path, split="val")


@SETS
def test_no_folder(tmp_path: Path, name: str) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(record(LABELS[name]))
    for folder in (tmp_path / "nowhere", file):
        with pytest.raises(ValueError, match=r"^there is no folder '.*'; check the path$"):
            READERS[name](folder, split="test")


@SETS
def test_empty_folder(tmp_path: Path, name: str) -> None:
    assert f"{str(tmp_path)!r} lacks {TEST_FILES[name]};" in message_of(name, tmp_path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    write_train(tmp_path, "cifar-10")
    (tmp_path / "data_batch_2.bin").unlink()
    (tmp_path / "data_batch_4.bin").unlink()
    message = message_of("cifar-10", tmp_path, "train")
    assert f"{str(tmp_path)!r} lacks data_batch_2.bin, data_batch_4.bin;" in message


@SETS
def test_a_folder_in_place_of_a_file(tmp_path: Path, name: str) -> None:
    (tmp_path / TEST_FILES[name]).mkdir()
    with pytest.raises(ValueError, match=r"test(_batch)?\.bin' cannot be read"):
        READERS[name](tmp_path, split="test")


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("cifar-10", ["cifar-10-batches-py/data_batch_1"]),
        ("cifar-10", ["data_batch_1", "test_batch", "batches.meta"]),
        ("cifar-10", ["test_batch"]),
        ("cifar-100", ["cifar-100-python/meta"]),
        ("cifar-100", ["train", "test", "meta"]),
    ],
)
def test_the_python_version_is_refused(tmp_path: Path, name: str, files: list[str]) -> None:
    for file in files:
        path = tmp_path / file
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"\x80\x02}q\x01.")  # a pickle
    for split in ("train", "test"):
        message = message_of(name, tmp_path, split)
        assert f"holds the Python version of {name}, whose files are pickled" in message
        assert f"name the folder {SUBFOLDERS[name]}" in message


@SETS
def test_the_binary_version_beside_the_python_version_is_read(tmp_path: Path, name: str) -> None:
    for file in ("batches.meta", "meta"):
        (tmp_path / file).write_bytes(b"\x80\x02.")
    (tmp_path / TEST_FILES[name]).write_bytes(record(LABELS[name]))
    assert len(READERS[name](tmp_path, split="test").x) == 1


@SETS
@pytest.mark.parametrize("change", ["empty", "short", "long", "other set", "pickle"])
def test_files_that_are_no_whole_number_of_records(tmp_path: Path, name: str, change: str) -> None:
    whole = record(LABELS[name]) * 2
    content = {
        "empty": b"",
        "short": whole[:-1],
        "long": whole + b"\0",
        "other set": record([0] * (3 - len(LABELS[name]))) * 2,
        "pickle": b"\x80\x02}q\x01.",
    }[change]
    path = tmp_path / TEST_FILES[name]
    path.write_bytes(content)
    message = message_of(name, tmp_path)
    assert (
        f"{str(path)!r} is truncated or no file of {name}: it has {len(content)} bytes" in message
    )
    assert f"records of {3072 + len(LABELS[name])};" in message


@SETS
def test_class_names_where_their_file_is_there(tmp_path: Path, name: str) -> None:
    (tmp_path / TEST_FILES[name]).write_bytes(record(LABELS[name]))
    assert READERS[name](tmp_path, split="test").class_names is None
    count = {"cifar-10": 10, "cifar-100": 100}[name]
    names = tuple(f"class_{number}" for number in range(count))
    path = tmp_path / {"cifar-10": "batches.meta.txt", "cifar-100": "fine_label_names.txt"}[name]
    path.write_text("\n".join(names) + "\n\n")  # the published files end in an empty line
    assert READERS[name](tmp_path, split="test").class_names == names
    path.write_text("\n".join(names[1:]))
    message = message_of(name, tmp_path)
    assert f"{str(path)!r} is damaged or no file of {name}: it has {count - 1} names" in message


def test_a_training_file_that_is_damaged_is_named(tmp_path: Path) -> None:
    write_train(tmp_path, "cifar-10")
    (tmp_path / "data_batch_5.bin").write_bytes(record([3])[:3000])
    assert "data_batch_5.bin' is truncated" in message_of("cifar-10", tmp_path, "train")

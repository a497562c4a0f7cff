import pytest

from pruneinit.data import DATASETS, load
from pruneinit.data.presence import presence
from pruneinit.data.sources import SOURCES


def states(root):
    return {one.name: one.state for one in presence(root)}


def test_every_data_set_is_listed_and_only_the_digits_need_no_files(tmp_path):
    assert states(tmp_path) == dict.fromkeys(DATASETS, "missing") | {"digits": "present"}
    assert [one.name for one in presence(tmp_path) if not one.advice] == ["digits"]
    advice = {one.name: one.advice for one in presence(tmp_path)}
    assert advice["mnist"] == "pruneinit data download mnist (12 MB)"
    assert "image-net.org" in advice["imagenet"]


@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar100"])
def test_files_are_counted(name, tmp_path):
    source = SOURCES[name]
    folder = tmp_path / source.folder
    folder.mkdir(parents=True)
    assert states(tmp_path)[name] == "missing"
    *others, last = source.files
    for file in others:
        (folder / file).touch()
    assert states(tmp_path)[name] == "incomplete"
    (folder / last.removesuffix(".gz")).touch()  # unpacked counts as well
    assert states(tmp_path)[name] == "present"


@pytest.mark.parametrize(
    "name, part",
    [
        ("mnist", "MNIST/raw/train-images-idx3-ubyte.gz.part"),
        ("cifar10", "cifar-10-python.tar.gz.part"),
        ("tiny-imagenet", "tiny-imagenet-200.zip.part"),
    ],
)
def test_a_download_that_was_broken_off_is_incomplete(name, part, tmp_path):
    (tmp_path / part).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / part).touch()
    assert states(tmp_path)[name] == "incomplete"


@pytest.mark.parametrize("name, folder", [("tiny-imagenet", "tiny-imagenet-200"), ("imagenet", "imagenet")])
def test_folders_need_training_and_validation_images(name, folder, tmp_path):
    (tmp_path / folder / "train" / "dog").mkdir(parents=True)
    assert states(tmp_path)[name] == "incomplete"
    (tmp_path / folder / "val").mkdir()
    assert states(tmp_path)[name] == "incomplete"
    (tmp_path / folder / "val" / "dog").mkdir()
    assert states(tmp_path)[name] == "present"


def test_the_sizes_are_those_of_the_sets(data_root):
    listed = {one.name: one for one in presence(data_root)}
    for name in ("digits", "mnist", "cifar100"):
        found = load(name, data_root)
        assert listed[name].images == f"{len(found.train):,} + {len(found.test):,}"
        assert listed[name].shape.startswith(f"{found.shape[1]}×{found.shape[2]}")
        assert ("colour" in listed[name].shape) == (found.shape[0] == 3)

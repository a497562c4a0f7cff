from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest
import torch

from pruneinit.data import data_root as resolve
from pruneinit.data import load
from pruneinit.data.sources import SOURCES, verified
from pruneinit.errors import InputError


def test_unknown_names() -> None:
    with pytest.raises(InputError, match="unknown data set 'cifar-10': expected one of .*; did you mean 'cifar10'"):
        load("cifar-10")
    with pytest.raises(InputError, match="size is for folders of images"):
        load("digits", size=8)


def test_the_root_is_the_argument_then_the_variable_then_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNEINIT_DATA", "~/sets")
    assert resolve("here") == Path("here")
    assert resolve() == Path.home() / "sets"
    monkeypatch.setenv("PRUNEINIT_DATA", "")
    assert resolve() == Path.home() / ".cache" / "pruneinit" / "data"
    monkeypatch.delenv("PRUNEINIT_DATA")
    assert resolve() == Path.home() / ".cache" / "pruneinit" / "data"


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "cifar100"])
def test_missing_files_say_what_to_do(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"no file .*; run `pruneinit data download {name}`, or set PRUNEINIT_DATA"):
        load(name, tmp_path)


def link(root: Path, data_root: Path, name: str, but: str) -> Path:
    """All files of a set below `root` but one; returns where that one is to be."""
    source = SOURCES[name]
    folder = root / source.folder
    folder.mkdir(parents=True)
    for file in source.files:
        if file != but:
            (folder / file).symlink_to((data_root / source.folder / file).resolve())
    return folder / but


@pytest.mark.parametrize(
    "name, file",
    [("mnist", "t10k-labels-idx1-ubyte.gz"), ("cifar10", "batches.meta"), ("cifar100", "meta")],
)
@pytest.mark.parametrize("damage", ["half", "one bit", "empty", "another file"])
def test_altered_files_are_refused(name: str, file: str, damage: str, tmp_path: Path, data_root: Path) -> None:
    path = link(tmp_path, data_root, name, but=file)
    contents = bytearray((data_root / SOURCES[name].folder / file).read_bytes())
    if damage == "one bit":
        contents[len(contents) // 2] ^= 1
    kept = {"half": contents[: len(contents) // 2], "one bit": contents, "empty": b"", "another file": b"<html>"}
    path.write_bytes(kept[damage])
    expected = f"{path} is not the official file of {name}.*expected MD5 {SOURCES[name].files[file]}.*download {name}"
    with pytest.raises(InputError, match=expected):
        load(name, tmp_path)


def test_idx_files_may_lie_unpacked(tmp_path: Path, data_root: Path) -> None:
    import gzip

    file = "t10k-labels-idx1-ubyte"
    path = link(tmp_path, data_root, "mnist", but=f"{file}.gz").with_name(file)
    plain = gzip.decompress((data_root / "MNIST" / "raw" / f"{file}.gz").read_bytes())
    path.write_bytes(plain)
    assert load("mnist", tmp_path).test.labels[:3].tolist() == [7, 2, 1]
    path.write_bytes(plain[:-1] + b"\x01")
    with pytest.raises(InputError, match="not the official file of mnist"):
        load("mnist", tmp_path)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_md5s_of_unpacked_files_follow_from_the_packed_ones(name: str, data_root: Path) -> None:
    import gzip

    for file, md5 in SOURCES[name].alternatives.items():
        plain = gzip.decompress(verified(name, f"{file}.gz", data_root))
        assert hashlib.md5(plain).hexdigest() == md5


def test_a_file_of_the_right_name_and_sum_but_the_wrong_set_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pickle

    contents = pickle.dumps({"label_names": ["x"]})
    for file in SOURCES["cifar10"].files:
        monkeypatch.setitem(SOURCES["cifar10"].files, file, hashlib.md5(contents).hexdigest())
        path = tmp_path / "cifar-10-batches-py" / file
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(contents)
    with pytest.raises(InputError, match="batches.meta has no list 'label_names'"):
        load("cifar10", tmp_path)


def test_digits() -> None:
    data = load("digits")
    assert data.shape == (1, 8, 8)
    assert len(data.train) + len(data.test) == 1797
    assert (data.padding, data.flip, data.validation) == (0, False, None)
    counts = torch.bincount(data.train.labels) + torch.bincount(data.test.labels)
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # as scikit-learn documents
    share = torch.bincount(data.test.labels) / counts
    assert share.min() > 0.195
    assert share.max() < 0.205
    assert sorted(set(data.train.images.flatten().tolist())) == [round(255 * k / 16) for k in range(17)]


def test_the_digits_are_split_alike_everywhere_and_for_ever() -> None:
    first, again = load("digits"), load("digits")
    assert torch.equal(first.test.images, again.test.images)
    # figures in reports rest on this split: whoever changes it must know
    digest = hashlib.md5(first.test.images.numpy().tobytes()).hexdigest()
    assert digest == "c9f78f93e2b37ad1605891fb57187c85"


def test_no_image_is_in_both_splits_of_digits() -> None:
    from sklearn.datasets import load_digits

    data = load("digits")
    every = sorted(tuple(image.ravel() * 255 / 16 // 1) for image in load_digits().images)
    both = torch.cat([data.train.images, data.test.images]).double()
    found = sorted(tuple(image) for image in (both * 16 / 255).round().mul(255 / 16).floor().flatten(1).tolist())
    assert found == every


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(InputError, match=r"pip install 'pruneinit\[digits\]'"):
        load("digits")


def test_files_that_may_not_be_looked_at_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", refuse)
    for name in ("mnist", "cifar10"):
        with pytest.raises(InputError, match=f"cannot read .* of {name}: Permission denied; check its permissions"):
            load(name, tmp_path)

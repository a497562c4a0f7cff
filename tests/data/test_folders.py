from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from pruneinit.data import batches, images, load
from pruneinit.data.images import StreamedSplit, decode
from pruneinit.errors import InputError


def paint(path: Path, colour: object, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """ImageNet's layout: two classes, image i of train filled with red 10 i, and a file that is no image."""
    for i in range(12):
        paint(tmp_path / "toy" / "train" / f"class{i % 2}" / f"{i:02}.png", (10 * i, 20 * i, 5 * i))
    for i in range(4):
        paint(tmp_path / "toy" / "val" / f"class{i % 2}" / f"{i}.png", (200 + i, 1, 2))
    (tmp_path / "toy" / "train" / "class0" / "notes.txt").write_text("not an image")
    return tmp_path


def test_imagenet_layout(folder: Path) -> None:
    data = load("folder:toy", folder)
    assert data.classes == ("class0", "class1")
    assert data.train.images[:, 0, 0, 0].tolist() == [*range(0, 120, 20), *range(10, 120, 20)]
    assert data.train.labels.tolist() == [0] * 6 + [1] * 6
    assert data.test.images[:, 0, 0, 0].tolist() == [200, 202, 201, 203]
    assert data.test.labels.tolist() == [0, 0, 1, 1]
    assert data.mean == pytest.approx((55 / 255, 110 / 255, 27.5 / 255))


@pytest.fixture
def varied(folder: Path) -> Path:
    """The same with noise, so that every channel has a deviation above 0."""
    for i, path in enumerate(sorted((folder / "toy").rglob("*.png"))):
        pixels = torch.randint(256, (8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(i))
        Image.fromarray(pixels.numpy()).save(path)
    return folder


def test_streamed_equals_in_memory(varied: Path) -> None:
    whole, streamed = load("folder:toy", varied), load("folder:toy", varied, limit=16 * 192 - 1)
    assert isinstance(streamed.train, StreamedSplit)
    assert not isinstance(whole.train, StreamedSplit)
    assert streamed.shape == whole.shape == (3, 8, 8)
    assert streamed.mean == whole.mean
    pairs = zip(batches(whole.train, whole, 5), batches(streamed.train, streamed, 5), strict=True)
    for (x, y), (other_x, other_y) in pairs:
        assert torch.equal(x, other_x)
        assert torch.equal(y, other_y)


def test_a_streamed_split_can_be_taken_held_out_and_moved(varied: Path) -> None:
    whole, streamed = load("folder:toy", varied), load("folder:toy", varied, limit=0)
    for indices in (torch.tensor([7, 2]), torch.arange(12) % 3 == 0):
        x, y = next(batches(streamed.train.take(indices).to("cpu"), streamed, 12))
        expected_x, expected_y = next(batches(whole.train.take(indices), whole, 12))
        assert torch.equal(x, expected_x)
        assert torch.equal(y, expected_y)
    held = streamed.hold_out(0.5, seed=0)
    assert held.validation is not None
    assert len(held.train) == len(held.validation) == 6
    shares = [sum(len(y) for _, y in batches(held.train, held, 5, rank=r, world=2)) for r in range(2)]
    assert shares == [4, 2]


def test_stopping_early_leaves_no_threads(varied: Path) -> None:
    streamed = load("folder:toy", varied, limit=0)
    epoch = batches(streamed.train, streamed, 1)
    next(epoch)
    epoch.close()  # type: ignore[attr-defined]
    assert not [t for t in threading.enumerate() if t.name.startswith("decode")]


def test_only_a_few_batches_are_decoded_ahead(varied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    streamed = load("folder:toy", varied, limit=0)
    decoded: list[Path] = []
    monkeypatch.setattr(images, "decode", lambda path, *rest: decoded.append(path) or decode(path, *rest))
    epoch = batches(streamed.train, streamed, 2)
    next(epoch)
    time.sleep(0.2)  # time enough to decode all twelve, were they asked for
    epoch.close()  # type: ignore[attr-defined]
    assert 2 <= len(decoded) <= 8 < len(streamed.train)


def test_an_empty_share_is_an_empty_batch(varied: Path) -> None:
    streamed = load("folder:toy", varied, limit=0)
    sizes = [tuple(x.shape) for x, _ in batches(streamed.train, streamed, 11, rank=1, world=2)]
    assert sizes == [(5, 3, 8, 8), (0, 3, 8, 8)]


@pytest.mark.parametrize("mode, colour", [("L", 7), ("RGBA", (7, 7, 7, 255)), ("P", 0), ("1", 1)])
def test_other_modes_become_three_channels(tmp_path: Path, mode: str, colour: object) -> None:
    paint(tmp_path / "a.png", colour, mode=mode)
    found = decode(tmp_path / "a.png")
    assert found.shape == (3, 8, 8)
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize("size", [(64, 40), (40, 64), (20, 20), (16, 16), (100, 17)], ids=str)
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_scaling_keeps_the_middle(tmp_path: Path, size: tuple[int, int], suffix: str) -> None:
    image = Image.new("RGB", size, (250, 0, 0))
    centre = (size[0] // 2 - 5, size[1] // 2 - 5, size[0] // 2 + 5, size[1] // 2 + 5)
    image.paste((0, 0, 250), centre)
    image.save(tmp_path / f"a.{suffix}")
    found = decode(tmp_path / f"a.{suffix}", size=16)
    assert found.shape == (3, 16, 16)
    assert found[2, 7:9, 7:9].min() > 200 > 60 > found[0, 7:9, 7:9].max()


def test_images_of_different_sizes_need_a_size(varied: Path) -> None:
    paint(varied / "toy" / "train" / "class1" / "zz.png", (1, 2, 3), size=(9, 7))
    with pytest.raises(InputError, match=r"zz.png has 7x9 pixels, the first image 8x8; give a size"):
        load("folder:toy", varied)
    assert load("folder:toy", varied, size=6).shape == (3, 6, 6)


@pytest.mark.parametrize("limit", [0, 1 << 30], ids=["streamed", "in memory"])
@pytest.mark.parametrize("damage", [b"", b"no image", None], ids=["empty", "text", "half"])
def test_a_damaged_image_is_named(varied: Path, limit: int, damage: bytes | None) -> None:
    path = varied / "toy" / "train" / "class1" / "05.png"
    path.write_bytes(path.read_bytes()[:90] if damage is None else damage)
    with pytest.raises(InputError, match=r"05.png is not a whole image"):
        load("folder:toy", varied, limit=limit)


def annotate(folder: Path, text: str) -> None:
    (folder / "toy" / "val" / "val_annotations.txt").write_text(text)


def test_tiny_imagenet_layout(varied: Path) -> None:
    for name in ("b", "a"):
        paint(varied / "toy" / "val" / "images" / f"{name}.png", (ord(name), 0, 0))
    annotate(varied, "b.png\tclass1\t0\t0\t8\t8\na.png\tclass0\t0\t0\t8\t8\n")
    data = load("folder:toy", varied)
    assert data.test.images[:, 0, 0, 0].tolist() == [ord("b"), ord("a")]
    assert data.test.labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    "line",
    ["a.png", "a.png class1", "a.png\tcat", "../../a.png\tclass1", ""],
    ids=["no label", "space", "class", "path", "blank"],
)
def test_annotations_are_checked(varied: Path, line: str) -> None:
    annotate(varied, f"{line}\n")
    with pytest.raises(InputError, match=r"val_annotations.txt, line 1"):
        load("folder:toy", varied)


def test_folders_that_are_not_a_data_set(varied: Path) -> None:
    with pytest.raises(InputError, match=r"no folder .*nowhere.train: folder:nowhere is read from train/CLASS/\*"):
        load("folder:nowhere", varied)
    with pytest.raises(InputError, match="pruneinit data download tiny-imagenet"):
        load("tiny-imagenet", varied)
    with pytest.raises(InputError, match="size of images must be 1"):
        load("folder:toy", varied, size=0)
    (varied / "toy" / "val" / "class7").mkdir()
    with pytest.raises(InputError, match="class7 is no class of the training images"):
        load("folder:toy", varied)
    (varied / "toy" / "val").rename(varied / "elsewhere")
    with pytest.raises(InputError, match="no images below .*val"):
        load("folder:toy", varied)
    (varied / "bare" / "train").mkdir(parents=True)
    with pytest.raises(InputError, match="has no folders"):
        load("folder:bare", varied)


def test_without_pillow_the_extra_is_named(varied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(InputError, match=r"pip install 'pruneinit\[images\]'"):
        load("folder:toy", varied)


def test_folders_that_may_not_be_read_are_named(varied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(InputError, match="cannot read .*toy/train of folder:toy: Permission denied; check its perm"):
        load("folder:toy", varied)


def test_annotations_that_are_no_text_are_named(varied: Path) -> None:
    (varied / "toy" / "val" / "val_annotations.txt").write_bytes(b"0.png\tclass0\xff\n")
    with pytest.raises(InputError, match=r"val_annotations.txt is no text \(.*\); copy"):
        load("folder:toy", varied)


def test_a_class_that_only_the_test_images_have_is_named(varied: Path) -> None:
    paint(varied / "toy" / "val" / "class9" / "9.png", (1, 2, 3))
    with pytest.raises(InputError, match="class9 is no class of the training images; expected one of 2 names"):
        load("folder:toy", varied)

"""Trainings in processes of their own: started alone, under torchrun, or killed again and again.

python worker.py cases FOLDER          # every case below; each process writes FOLDER/case-RANK.safetensors
python worker.py killed FOLDER SEED    # the case "pruned" in a child that gets SIGKILL at random moments
python worker.py forever FOLDER        # train until interrupted
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import nn

from pruneinit.data import Dataset, Split, load
from pruneinit.errors import InputError
from pruneinit.files import write_tensors
from pruneinit.masks import Masks
from pruneinit.survivors import sparsify_
from pruneinit.train import Training, distributed, train


def noise(images: int, test: int = 37) -> Dataset:
    """Random images whose class can be learnt: the brightest quarter."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (images + test, 1, 8, 8), dtype=torch.uint8, generator=generator)
    quarters = pixels.float().unfold(2, 4, 4).unfold(3, 4, 4).mean(dim=(-1, -2)).flatten(1)
    labels = quarters.argmax(1)
    train_split, test_split = Split(pixels[:images], labels[:images]), Split(pixels[images:], labels[images:])
    return Dataset("noise", train_split, test_split, tuple("abcd"), (0.5,), (0.29,), padding=1, flip=False)


class View(nn.Module):
    """Flattens as many models do, in a way that fails for an empty batch."""

    def forward(self, x):
        return x.view(len(x), -1)


def mlp(classes: int) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, classes))


def pruned_conv(seed: int = 1) -> nn.Module:
    """Convolution, normalisation, dropout, and half of every weight gone."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), View(), nn.Dropout(0.2), nn.Linear(8 * 36, 4)
    )
    masks = {}
    for name in ("0.weight", "5.weight"):
        shape = model.get_parameter(name).shape
        masks[name] = torch.randperm(shape.numel()).view(shape) < shape.numel() // 2
    return sparsify_(model, Masks(masks))


PRUNED = Training(epochs=12, batch_size=32, optimizer="adamw", lr=0.01, schedule="cosine", warmup_epochs=1)
LONG = replace(PRUNED, epochs=24)


def write(folder: Path, case: str, model: nn.Module, records: list) -> None:
    plain = [asdict(record) | {"seconds": 0.0} for record in records]
    name = f"{case}-{os.environ.get('RANK', '0')}.safetensors"
    write_tensors(folder / name, model.state_dict(), {"records": plain})


def cases(folder: Path) -> None:
    with distributed("cpu"):
        rank = int(os.environ.get("RANK", "0"))

        # Both a full batch, 125, and the last, 1438 % 125 = 63, are odd: uneven shares for two processes.
        model, calls = mlp(10), []
        settings = Training(epochs=3, batch_size=125, lr=0.05, weight_decay=1e-3, label_smoothing=0.1, clip_norm=1.0)
        records = train(
            model,
            load("digits"),
            settings,
            seed=3,
            device="cpu",
            checkpoint=folder / f"written-{rank}.safetensors",
            on_epoch=lambda record: calls.append(f"epoch {record.epoch}"),
            on_step=lambda epoch, step, steps, loss: calls.append(f"step {epoch} {step}/{steps}"),
        )
        write(folder, "digits", model, records)
        (folder / f"calls-{rank}.txt").write_text("\n".join(calls))

        # A last batch of a single image leaves one of two processes without any.
        model = mlp(4)
        settings = Training(epochs=3, batch_size=16, lr=0.05, optimizer="sgd")
        write(folder, "empty-share", model, train(model, noise(65), settings, seed=3, device="cpu"))

        # Normalisation, dropout, survivors, and 289 % 32 = 1; then the same, continued from the checkpoint of epoch 3.
        model, whole, half = pruned_conv(), folder / "whole.safetensors", folder / "half.safetensors"

        def keep_half(record) -> None:
            if record.epoch == 3:
                shutil.copy(whole, half)

        records = train(model, noise(289), PRUNED, seed=3, device="cpu", checkpoint=whole, on_epoch=keep_half)
        write(folder, "pruned", model, records)
        model = pruned_conv()
        write(folder, "resumed", model, train(model, noise(289), PRUNED, seed=3, device="cpu", checkpoint=half))

        # Only one process sees the damage, but all must stop.
        mine = folder / f"damaged-{rank}.safetensors"
        if rank == 0:
            mine.write_bytes(b"not a checkpoint")
        try:
            train(pruned_conv(), noise(289), PRUNED, seed=3, device="cpu", checkpoint=mine)
        except InputError as error:
            (folder / f"damaged-{rank}.txt").write_text(str(error))
        if "WORLD_SIZE" in os.environ:
            try:
                train(pruned_conv(seed=rank), noise(289), PRUNED, seed=3, device="cpu")
            except InputError as error:
                (folder / f"other-masks-{rank}.txt").write_text(str(error))


def killed(folder: Path, seed: int) -> None:
    """Kill the training at random moments until it has been killed five times, then let it end."""
    import torch._dynamo  # noqa: F401 - the first optimizer step imports it, which takes longer than a child lives

    chance = random.Random(seed)
    checkpoint, kills, partial = folder / "killed-checkpoint.safetensors", 0, 0
    while True:
        child = os.fork()
        if child == 0:
            model = pruned_conv()
            records = train(model, noise(500), LONG, seed=3, device="cpu", checkpoint=checkpoint)
            write(folder, "killed", model, records)
            os._exit(0)
        if kills < 5:
            await_writes(checkpoint, chance.choice([0, 1, 2]))
            time.sleep(chance.uniform(0.0, 0.05))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            break
        kills += 1
        partial += checkpoint.exists()
    (folder / "kills.txt").write_text(f"{kills} {partial} {os.waitstatus_to_exitcode(status)}")
    model = pruned_conv()
    write(folder, "unkilled", model, train(model, noise(500), LONG, seed=3, device="cpu"))


def await_writes(path: Path, count: int) -> None:
    """Wait until `path` has been replaced `count` times, however fast the machine is."""
    last = path.stat().st_mtime_ns if path.exists() else 0
    while count:
        now = path.stat().st_mtime_ns if path.exists() else 0
        count -= now != last
        last = now
        time.sleep(0.002)


def forever(folder: Path) -> None:
    settings = Training(epochs=100_000, batch_size=32, schedule="constant")
    train(mlp(4), noise(300), settings, seed=3, device="cpu", checkpoint=folder / "forever.safetensors")


if __name__ == "__main__":
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    command, folder = sys.argv[1], Path(sys.argv[2])
    if command == "cases":
        cases(folder)
    elif command == "killed":
        killed(folder, int(sys.argv[3]))
    else:
        forever(folder)

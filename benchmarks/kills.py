"""Kill a run again and again, at random moments, and see that it ends with the numbers of a run left in peace.

    python benchmarks/kills.py [--kills 200] [--seed 0] [--write]

Writes `results/kills.json`, at other settings only with `--write`. 200 kills take about twenty minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from documents import parse, write_results

from pruneinit.experiments import Recipe, run
from pruneinit.train import Training

CODE = "import sys; from pruneinit.experiments import Recipe, run; run(Recipe.from_yaml(sys.argv[1]), sys.argv[2])"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments, commit = parse(parser)
    chance = random.Random(arguments.seed)
    training = Training(epochs=40, batch_size=32, lr=0.02, augment=False, schedule="cosine")
    kills, rounds, different = 0, 0, 0
    while kills < arguments.kills:
        recipe = Recipe(model="resnet20", width=4, sparsity=0.8, residuals="stable", seed=rounds, training=training)
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            (root / "recipe.yaml").write_text(recipe.to_yaml())
            cut = root / "cut"
            while kills < arguments.kills and not (cut / recipe.name / "report.html").is_file():
                kills += killed([sys.executable, "-c", CODE, str(root / "recipe.yaml"), str(cut)], chance)
            same = outcome(run(recipe, cut)) == outcome(run(recipe, root / "whole"))
        rounds += 1
        different += not same
        print(f"{kills} kills in {rounds} runs, {different} of them ended differently", flush=True)
    write_results("kills", {"kills": kills, "runs": rounds, "different": different}, commit)


def killed(command: list[str], chance: random.Random) -> int:
    """Start the command and kill it within a few seconds; 1 if it was still running then."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(chance.uniform(1.0, 9.0))
    running = process.poll() is None
    if running:
        process.send_signal(signal.SIGKILL)
    process.wait()
    return int(running)


def outcome(folder: Path) -> tuple[bytes, list[dict[str, Any]]]:
    """The model file, and the record without its times."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    events = [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]
    return (folder / "model.safetensors").read_bytes(), events


if __name__ == "__main__":
    main()

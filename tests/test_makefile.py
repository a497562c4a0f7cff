import subprocess
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


def test_the_main_job_runs_on_one_thread_unless_told_otherwise(tmp_path):
    command = ["make", "-n", "run", f"VENV={tmp_path}"]
    planned = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    (line,) = (line for line in planned.splitlines() if "pruneinit compare" in line)
    assert line.startswith("OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} ")

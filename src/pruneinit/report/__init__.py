"""What a run has to show: web pages and tables for the terminal, made from its folder alone."""

from pruneinit.report.diagnosis import diagnosis_table, facts, write_diagnosis
from pruneinit.report.page import write_comparison, write_index, write_report
from pruneinit.report.read import read_run
from pruneinit.report.record import (
    Epoch,
    Layer,
    Pruning,
    Rescaling,
    Residuals,
    Result,
    RunRecord,
    Stage,
)
from pruneinit.report.terminal import layer_table, moments_table, result_table

__all__ = [
    "Epoch",
    "Layer",
    "Pruning",
    "Rescaling",
    "Residuals",
    "Result",
    "RunRecord",
    "Stage",
    "diagnosis_table",
    "facts",
    "layer_table",
    "moments_table",
    "read_run",
    "result_table",
    "write_comparison",
    "write_diagnosis",
    "write_index",
    "write_report",
]

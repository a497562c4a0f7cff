"""What a run has to show: web pages and tables for the terminal, made from its folder alone."""

from pruneinit.report.diagnosis import check_diagnosis, diagnosis_table, facts, write_diagnosis
from pruneinit.report.edge import Edges, check_page, find_edges, write_edges
from pruneinit.report.many import RESULTS, write_results
from pruneinit.report.outcomes import Outcome
from pruneinit.report.page import write_comparison, write_index, write_report
from pruneinit.report.phases import TEXT, diagram_of, phase_text
from pruneinit.report.published import Published
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
from pruneinit.report.terminal import edge_table, layer_table, moments_table, result_table

__all__ = [
    "RESULTS",
    "TEXT",
    "Edges",
    "Epoch",
    "Layer",
    "Outcome",
    "Pruning",
    "Published",
    "Rescaling",
    "Residuals",
    "Result",
    "RunRecord",
    "Stage",
    "check_diagnosis",
    "check_page",
    "diagnosis_table",
    "diagram_of",
    "edge_table",
    "facts",
    "find_edges",
    "layer_table",
    "moments_table",
    "phase_text",
    "read_run",
    "result_table",
    "write_comparison",
    "write_diagnosis",
    "write_edges",
    "write_index",
    "write_report",
    "write_results",
]

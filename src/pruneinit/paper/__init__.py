"""Every figure and table of "Robust Pruning at Initialization" (arXiv 2002.08797), carried out again by command."""

from pruneinit.paper.again import Again, again
from pruneinit.paper.budget import Budget, parse_budget
from pruneinit.paper.published import at_sparsities
from pruneinit.paper.reproduce import Written, reproduce
from pruneinit.paper.results_page import write_results_page
from pruneinit.paper.studies import STUDIES, study
from pruneinit.paper.study import Findings, Means, Study

__all__ = [
    "STUDIES",
    "Again",
    "Budget",
    "Findings",
    "Means",
    "Study",
    "Written",
    "again",
    "at_sparsities",
    "parse_budget",
    "reproduce",
    "study",
    "write_results_page",
]

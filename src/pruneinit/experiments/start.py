"""How a run begins, for whoever wants to tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pruneinit


@dataclass(frozen=True)
class Start:
    """Where a run stands when it is asked for; `str` says it in a line.

    Attributes:
        state: `"new"`, `"resumed"` after a kill, or `"finished"` before, so that nothing is computed.
        epoch: How many epochs are over.
        version: The version of pruneinit that began the run.

    Example:
        >>> print(Start("resumed", 7, pruneinit.__version__))
        going on after epoch 7
        >>> print(Start("finished", 160, "0.0.1"))
        finished before, nothing is computed anew (begun by pruneinit 0.0.1, this is ...; --force begins anew)
    """

    state: Literal["new", "resumed", "finished"]
    epoch: int
    version: str

    def __str__(self) -> str:
        if self.state == "new":
            return "begins"
        words = f"going on after epoch {self.epoch}"
        if self.state == "finished":
            words = "finished before, nothing is computed anew"
        if self.version != pruneinit.__version__:
            words += f" (begun by pruneinit {self.version}, this is {pruneinit.__version__}; --force begins anew)"
        return words

"""The flow of ones through a network made linear and positive, at any depth.

`trace` runs a forward pass operation by operation, `table` says by which rule, and `scaled` keeps a power of two beside
each tensor, so that nothing overflows. `program` writes a pass down, to run it again on other weights.
"""

from pruneinit.flow.program import Program
from pruneinit.flow.recorder import Recorder
from pruneinit.flow.trace import Flow, total

__all__ = ["Flow", "Program", "Recorder", "total"]

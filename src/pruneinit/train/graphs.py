"""A step of training on a GPU as one CUDA graph: its hundreds of small kernels are started by a single call."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

Step = Callable[[Tensor, Tensor, int], None]
"""One update from images [B, C, H, W], labels [B] and the size of the batch, which changes tensors in place."""

# What is made once, as buffers of the optimizer and workspaces of libraries, is there after one call; PyTorch asks for
# three, and what was compiled has settled by then.
_WARM_UP = 3


class Recorder(Protocol):
    """Where work is started, and how it is recorded."""

    def start(self, run: Callable[[], None]) -> None:
        """Do `run` as it would be recorded, and do it now."""

    def record(self, run: Callable[[], None]) -> Callable[[], None]:
        """Write down what `run` would do, without doing it; the result does it."""


class CudaGraph:
    """Records what is started on a GPU, on a stream of its own, as PyTorch asks for.

    Args:
        device: The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def start(self, run: Callable[[], None]) -> None:
        """Do `run` on the stream, after what was started before, and let what comes later wait for it."""
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            run()
        torch.cuda.current_stream(self._stream.device).wait_stream(self._stream)

    def record(self, run: Callable[[], None]) -> Callable[[], None]:
        """As a graph, which works on the very memory that `run` works on.

        Raises:
            RuntimeError: Something that `run` does cannot be recorded, as it waits for the GPU.
        """
        graph = torch.cuda.CUDAGraph()
        # Threads that read images may allocate memory meanwhile: what they do is not what is recorded.
        with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
            run()
        return graph.replay


class Repeated:
    """A step that is recorded once and then replayed, for all batches of the first one's shape.

    The kernels are those of the step itself, and so are the numbers. The first batches are steps as they are. Those of
    another size, as the last one of an epoch, stay so; and all do, with a warning, where the step cannot be recorded.

    Args:
        step: All that it reads and changes beside its arguments must stay at its place in memory.
        recorder: Of the device that it works on.

    Example:
        >>> class Again:
        ...     def start(self, run):
        ...         run()
        ...     def record(self, run):
        ...         return run
        >>> total = torch.zeros(1)
        >>> step = Repeated(lambda x, y, size: total.add_(x.sum()), Again())
        >>> for _ in range(5):
        ...     step(torch.ones(2), torch.zeros(2), 2)
        >>> total, step.recorded
        (tensor([10.]), True)
    """

    def __init__(self, step: Step, recorder: Recorder) -> None:
        self._step, self._recorder = step, recorder
        self._shape: object = None
        self._calls = 0
        self._x, self._y = torch.empty(0), torch.empty(0)
        self._replay: Callable[[], None] | None = None
        self._refused = False

    @property
    def recorded(self) -> bool:
        """Whether batches of the first one's shape are replayed now."""
        return self._replay is not None

    def __call__(self, x: Tensor, y: Tensor, size: int) -> None:
        """One step."""
        shape = (x.shape, x.dtype, y.shape, y.dtype, size)
        if self._shape is None:
            self._shape = shape
        if self._refused or shape != self._shape:
            self._step(x, y, size)
            return
        self._calls += 1
        if self._calls <= _WARM_UP:
            self._recorder.start(lambda: self._step(x, y, size))
            return
        if self._replay is None:
            self._x, self._y = x.clone(), y.clone()
            try:
                self._replay = self._recorder.record(lambda: self._step(self._x, self._y, size))
            except RuntimeError as error:
                self._refused = True
                why = str(error).partition("\n")[0]
                warnings.warn(
                    f"a step of this model cannot be recorded as a CUDA graph ({why}): it is trained operation by "
                    "operation, which takes longer where the model is small",
                    stacklevel=2,
                )
                self._step(x, y, size)
                return
        self._x.copy_(x)
        self._y.copy_(y)
        self._replay()

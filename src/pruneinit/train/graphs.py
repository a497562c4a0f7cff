"""A step of training on a GPU as one CUDA graph: its hundreds of small kernels are started by a single call."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor

from pruneinit.errors import InputError

Step = Callable[[Tensor, Tensor, int], None]
"""One update from images [B, C, H, W], labels [B] and the size of the batch, which changes tensors in place."""

# What is made once, as buffers of the optimizer and workspaces of libraries, is there after one call; PyTorch asks for
# three, and what was compiled has settled by then.
_WARM_UP = 3


class Recorder(Protocol):
    """Where work is started, and how it is recorded."""

    def start(self, run: Callable[[], None]) -> None:
        """Do `run` as it would be recorded, and do it now."""

    def rehearse(self, run: Callable[[], None]) -> None:
        """`start` it; an InputError says why it could not be recorded."""

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

    def rehearse(self, run: Callable[[], None]) -> None:
        """`start` it, and look whether anything in it waits for the GPU.

        It is asked for beforehand, since random numbers and memory of the process are of no use any more after a
        recording that failed.

        Raises:
            InputError: Something does, and cannot be recorded.
        """
        before = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                self.start(run)
            finally:
                torch.cuda.set_sync_debug_mode(before)
        for one in heard:
            if "called a synchronizing" in str(one.message):
                raise InputError(
                    f"cuda_graph=True: a step of this model waits for the GPU ({one.filename}:{one.lineno}), which "
                    "cannot be recorded; leave cuda_graph out"
                )
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)

    def record(self, run: Callable[[], None]) -> Callable[[], None]:
        """As a graph, which works on the very memory that `run` works on.

        Raises:
            InputError: Something that `run` does cannot be recorded.
        """
        graph = torch.cuda.CUDAGraph()
        try:
            # Device and stream are put back also where PyTorch's own does not, after a failure. Other threads may use
            # the GPU meanwhile: what they do is not what is recorded.
            with (
                torch.cuda.device(self._stream.device),
                torch.cuda.stream(self._stream),
                torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"),
            ):
                run()
        except RuntimeError as error:
            cause = error.__context__ or error  # what leaving the graph says hides what went wrong in it
            why = str(cause).partition("\n")[0]
            raise InputError(
                f"cuda_graph=True: a step of this model cannot be recorded ({why}); leave cuda_graph out, in a new "
                "process"
            ) from error
        return graph.replay


class Repeated:
    """A step that is recorded once and then replayed, for all batches of the first one's shape.

    The kernels are those of the step itself, and so are the numbers. The first batches are steps as they are; those of
    another size, as the last one of an epoch, stay so.

    Args:
        step: All that it reads and changes beside its arguments must stay at its place in memory.
        recorder: Of the device that it works on.
        places: Where tensors are that must stay there, by name.

    Raises:
        InputError: On a call: the step cannot be recorded, or moves one of the tensors.

    Example:
        >>> class Again:
        ...     def start(self, run):
        ...         run()
        ...     rehearse = start
        ...     def record(self, run):
        ...         return run
        >>> total = torch.zeros(1)
        >>> step = Repeated(lambda x, y, size: total.add_(x.sum()), Again(), lambda: {"total": total.data_ptr()})
        >>> for _ in range(5):
        ...     step(torch.ones(2), torch.zeros(2), 2)
        >>> total, step.recorded
        (tensor([10.]), True)
    """

    def __init__(self, step: Step, recorder: Recorder, places: Callable[[], Mapping[str, int]]) -> None:
        self._step, self._recorder, self._places = step, recorder, places
        self._shape: object = None
        self._calls = 0
        self._x, self._y = torch.empty(0), torch.empty(0)
        self._replay: Callable[[], None] | None = None

    @property
    def recorded(self) -> bool:
        """Whether batches of the first one's shape are replayed now."""
        return self._replay is not None

    def __call__(self, x: Tensor, y: Tensor, size: int) -> None:
        """One step."""
        shape = (x.shape, x.dtype, y.shape, y.dtype, size)
        if self._shape is None:
            self._shape = shape
        if shape != self._shape:
            self._step(x, y, size)
        elif self._replay is None and self._calls < _WARM_UP:
            self._warm_up(x, y, size)
        else:
            if self._replay is None:
                self._x, self._y = x.clone(), y.clone()
                self._replay = self._recorder.record(lambda: self._step(self._x, self._y, size))
            self._x.copy_(x)
            self._y.copy_(y)
            self._replay()

    def _warm_up(self, x: Tensor, y: Tensor, size: int) -> None:
        self._calls += 1
        if self._calls < _WARM_UP:
            self._recorder.start(lambda: self._step(x, y, size))
            return
        before = self._places()
        self._recorder.rehearse(lambda: self._step(x, y, size))
        after = self._places()
        if moved := sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name)):
            raise InputError(
                f"cuda_graph=True: a step of this model puts new tensors in the place of {', '.join(moved[:3])}, and a "
                "recorded one would go on reading the old ones; change them in place, or leave cuda_graph out"
            )

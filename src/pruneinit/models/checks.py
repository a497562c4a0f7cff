"""Checks that every architecture makes of its arguments."""

from __future__ import annotations

from pruneinit.errors import InputError

Shape = tuple[int, int, int]


def check_count(what: str, value: int, least: int = 1) -> int:
    """Return `value` if it is a whole number of at least `least`, else raise `InputError`.

    Example:
        >>> check_count("width", 0)
        Traceback (most recent call last):
        ...
        pruneinit.errors.InputError: width must be a whole number of at least 1, got 0
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise InputError(f"{what} must be a whole number of at least {least}, got {value!r}")
    return value


def check_shape(shape: Shape) -> Shape:
    """Return `shape` if it is (channels, height, width), each at least 1, else raise `InputError`."""
    if not isinstance(shape, (tuple, list)) or len(shape) != 3:
        raise InputError(f"the input shape must be (channels, height, width), got {shape!r}")
    channels, height, width = (check_count("each of channels, height and width", size) for size in shape)
    return channels, height, width


def blocks_per_stage(name: str, depth: int, per_block: int, extra: int) -> int:
    """How many blocks each of three stages has in a network of `depth` = 3 * per_block * n + extra layers.

    Raises:
        InputError: No whole n of at least 1 fits; the message names the nearest depths that do.

    Example:
        >>> blocks_per_stage("resnet", 32, per_block=2, extra=2)
        5
    """
    check_count("depth", depth)
    step = 3 * per_block
    blocks, left = divmod(depth - extra, step)
    if left or blocks < 1:
        below = step * max(blocks, 1) + extra
        near = f"{below} or {below + step}" if depth > below else f"{below}"
        raise InputError(f"the depth of a {name} must be {step}n+{extra} with n >= 1, got {depth}; try {near}")
    return blocks

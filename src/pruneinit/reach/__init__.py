"""Effective sparsity: which kept weights lie on a path from an input to an output, for any model.

`trace` follows a forward pass operation by operation, `table` says by which rule, and `effective` reads off the
gradients which weights are alive.
"""

from pruneinit.reach.effective import effective_masks, reacher

__all__ = ["effective_masks", "reacher"]

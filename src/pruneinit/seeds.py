"""Seeds derived from seeds, so that two uses of one seed never read the same stream of random numbers."""

from __future__ import annotations

import hashlib
import operator


def derived(*parts: int | str) -> int:
    """A seed of 63 bits that depends on all parts; neighbouring seeds give unrelated ones.

    Without a label of its own, for example `derived("random scores", 0)`, a random score drawn from seed 0 would repeat
    the very numbers that initialised the weights from seed 0.

    Example:
        >>> derived("scores", 0) != derived("weights", 0) != derived("weights", 1)
        True
    """
    # One seed is one stream whatever its type: NumPy's whole numbers have another repr.
    plain = tuple(part if isinstance(part, str) else operator.index(part) for part in parts)
    digest = hashlib.blake2b(repr(plain).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1

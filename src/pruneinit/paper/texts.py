"""What the pages say of each study in words: `texts.yaml` beside this file."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml


@cache
def texts(study: str) -> dict[str, Any]:
    """The `name`, `title`, `shows`, `differs` and perhaps `needs` of a study, for its definition.

    Example:
        >>> sorted(texts("cifar")["differs"])
        ['paper', 'small']
    """
    every = yaml.safe_load((Path(__file__).parent / "texts.yaml").read_text(encoding="utf-8"))
    return {"name": study, **every[study]}

"""Architectures of every kind, each as its library ships it, on which the whole way of a model is gone.

`ARCHITECTURES` is the list; `chain.carry` goes the way. Nothing is downloaded: all weights are random.
"""

from zoo.architecture import Architecture
from zoo.handmade import HANDMADE
from zoo.texts import TEXTS
from zoo.vision import VISION

ARCHITECTURES: list[Architecture] = [*VISION, *TEXTS, *HANDMADE]

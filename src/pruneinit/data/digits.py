"""Handwritten digits that need no download: scikit-learn's 1,797 images of 8x8, the set to try things on."""

from __future__ import annotations

import torch

from pruneinit.data.dataset import Dataset, Split, stratified
from pruneinit.data.statistics import mean_and_std
from pruneinit.errors import InputError

_TEST_SHARE = 0.2
_SEED = 0
_BRIGHTEST = 16


def load_digits() -> Dataset:
    """The digits, split 80/20 by class with a fixed seed; pixel values 0..16 are spread over 0..255.

    Raises:
        InputError: scikit-learn is not installed.

    Example:
        >>> data = load_digits()
        >>> data.shape, len(data.train), len(data.test)
        ((1, 8, 8), 1438, 359)
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise InputError("the digits come with scikit-learn: run pip install 'pruneinit[digits]'") from error
    found = datasets.load_digits()
    images = (torch.from_numpy(found.images) * (255 / _BRIGHTEST)).round().to(torch.uint8)[:, None]
    every = Split(images, torch.from_numpy(found.target).long())
    rest, chosen = stratified(every.labels, _TEST_SHARE, _SEED)
    train, test = every.take(rest), every.take(chosen)
    mean, std = mean_and_std(train.images)
    return Dataset("digits", train, test, tuple("0123456789"), mean, std)

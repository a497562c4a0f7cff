"""Data sets: read from their official files, checked, kept as bytes, batched on the device they live on."""

from pruneinit.data.batches import batches, normalize
from pruneinit.data.dataset import Dataset, Split
from pruneinit.data.download import download
from pruneinit.data.loading import DATASETS, load
from pruneinit.data.sources import data_root

__all__ = ["DATASETS", "Dataset", "Split", "batches", "data_root", "download", "load", "normalize"]

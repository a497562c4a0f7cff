"""Networks of transformers, small, from their configurations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from zoo.architecture import Architecture, images
from zoo.imports import torchvision_models

VOCABULARY = 64


def _transformers(name: str, config: str, **settings: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        torchvision_models()  # transformers imports it too
        import transformers

        return getattr(transformers, name)(getattr(transformers, config)(**settings))

    return build


def _sentences(generator: torch.Generator) -> dict[str, Tensor]:
    """Two sentences, the second with four words of padding, and what follows each word."""
    ids = torch.randint(VOCABULARY, (2, 12), generator=generator)
    attended = torch.ones_like(ids)
    attended[1, -4:] = 0
    return {"input_ids": ids, "attention_mask": attended, "labels": ids.masked_fill(attended == 0, -100)}


def _labelled(generator: torch.Generator) -> dict[str, Tensor]:
    return _sentences(generator) | {"labels": torch.randint(3, (2,), generator=generator)}


def _pictures(generator: torch.Generator) -> dict[str, Tensor]:
    pixels, labels = images(32)(generator)
    return {"pixel_values": pixels, "labels": labels}


def own_loss(model: nn.Module, batch: Any) -> Tensor:
    """The loss that a model of transformers computes itself where it is given labels."""
    return model(**batch).loss


def _inputs(batch: Any) -> Any:
    return {name: tensor for name, tensor in batch.items() if name != "labels"}


_OWN: dict[str, Any] = {"loss": own_loss, "inputs": _inputs}

_TOKENS = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 1}
_LLAMA = _TOKENS | {
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "max_position_embeddings": 32,
}

TEXTS = [
    Architecture(
        "GPT-2",
        "transformers",
        _transformers(
            "GPT2LMHeadModel",
            "GPT2Config",
            **_TOKENS,
            n_positions=32,
            n_embd=48,
            n_layer=3,
            n_head=4,
        ),
        _sentences,
        **_OWN,
    ),
    Architecture(
        "BERT",
        "transformers",
        _transformers(
            "BertForSequenceClassification",
            "BertConfig",
            **_TOKENS,
            hidden_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=96,
            max_position_embeddings=32,
            num_labels=3,
        ),
        _labelled,
        **_OWN,
    ),
    Architecture(
        "ViT",
        "transformers",
        _transformers(
            "ViTForImageClassification",
            "ViTConfig",
            hidden_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            intermediate_size=96,
            image_size=32,
            patch_size=8,
            num_labels=10,
        ),
        _pictures,
        **_OWN,
    ),
    Architecture(
        "Llama",
        "transformers",
        _transformers(
            "LlamaForCausalLM",
            "LlamaConfig",
            **_LLAMA,
        ),
        _sentences,
        **_OWN,
    ),
    Architecture(
        "Llama in bfloat16",
        "transformers",
        _transformers(
            "LlamaForCausalLM",
            "LlamaConfig",
            **_LLAMA,
            dtype=torch.bfloat16,
            tie_word_embeddings=True,
        ),
        _sentences,
        **_OWN,
    ),
]

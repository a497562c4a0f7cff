"""Dead and live weights of attention and of models over tokens, by hand."""

import pytest
import torch
from torch import nn

import pruneinit as pi
from networks import live


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("kdim", [None, 3])
def test_attention_depends_on_queries_keys_and_values(need_weights, kdim):
    class Cross(nn.Module):
        def __init__(self):
            super().__init__()
            self.query = nn.Linear(2, 4)
            self.memory = nn.Linear(2, kdim or 4)
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True, kdim=kdim, vdim=kdim)

        def forward(self, x):
            memory = self.memory(x)
            return self.attention(self.query(x), memory, memory, need_weights=need_weights)[0]

    model, x = Cross().eval(), torch.randn(1, 3, 2)
    assert live(model, x).sparsity == 0
    if kdim is None:
        ones, zeros = torch.ones(4, 4), torch.zeros(4, 4)
        dead_q = {"attention.in_proj_weight": torch.cat([zeros, ones, ones])}
        dead_v = {"attention.in_proj_weight": torch.cat([ones, ones, zeros])}
        dead_q_k = {"attention.in_proj_weight": torch.cat([zeros, zeros, ones])}
    else:
        dead_q = {"attention.q_proj_weight": torch.zeros(4, 4)}
        dead_v = {"attention.v_proj_weight": torch.zeros(4, 3)}
        dead_q_k = dead_q | {"attention.k_proj_weight": torch.zeros(4, 3)}
    found = live(model, x, dead_q)
    assert found.counts["query.weight"] == (0, 8)
    assert found.densities["memory.weight"] == 1
    assert live(model, x, dead_q_k).densities["memory.weight"] == 1
    assert live(model, x, dead_v).densities["memory.weight"] == 1  # by the keys
    # A head that nobody listens to is dead in all three, and nothing else is.
    half = torch.ones(4, 4)
    half[:, :2] = 0
    found = live(model, x, {"attention.out_proj.weight": half})
    rows = torch.cat([m.all(1) for n, m in found.items() if "proj_weight" in n]).tolist()
    assert rows == [False, False, True, True] * 3
    assert found.counts["query.weight"] == (8, 8)


@pytest.mark.parametrize("fused", [True, False])
def test_learned_queries_are_no_input_but_choose_among_the_values(fused):
    class Pooling(nn.Module):
        def __init__(self):
            super().__init__()
            self.start = nn.Parameter(torch.zeros(1, 1, 2))
            self.query, self.key, self.value = nn.Linear(2, 4), nn.Linear(2, 4), nn.Linear(2, 3)

        def forward(self, x):
            q, k, v = self.query(self.start), self.key(x), self.value(x)
            if fused:
                return nn.functional.scaled_dot_product_attention(q, k, v)
            return (q @ k.mT).softmax(-1) @ v

    mask = torch.ones(4, 2)
    mask[1] = 0  # this dimension of the keys is compared with nothing
    found = live(Pooling(), torch.randn(1, 3, 2), {"key.weight": mask})
    assert found["query.weight"].equal(mask.bool())
    assert found.kept == found.total - 4


class Language(nn.Module):
    """Tokens in, logits of tokens out, with one matrix for both."""

    def __init__(self, tied):
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.position = nn.Parameter(torch.zeros(1, 3, 4))
        layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(4, 5, bias=False)
        if tied:
            self.head.weight = self.embedding.weight

    def forward(self, tokens):
        causal = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1])
        return self.head(self.encoder(self.embedding(tokens) + self.position, mask=causal, is_causal=True))


@pytest.mark.parametrize("tied", [True, False])
def test_tokens_through_a_transformer(tied):
    model, tokens = Language(tied), torch.tensor([[1, 3, 3]])
    assert live(model, tokens).sparsity == 0
    nothing = {n: torch.zeros(w.shape) for n, w in pi.prunable(model).items() if "encoder" in n}
    # The residual stream is left: what the embedding writes, the head reads.
    found = live(model, tokens, nothing)
    assert found.counts["head.weight"] == (20, 20)
    assert found.kept == 20
    silent = {"encoder.layers.1.linear1.weight": torch.zeros(8, 4)}
    assert live(model, tokens, silent).counts["encoder.layers.1.linear2.weight"] == (0, 32)


@pytest.mark.parametrize("look_up", [lambda table, t: nn.functional.embedding(t, table), lambda table, t: table[t]])
def test_a_row_of_a_tied_embedding_lives_by_its_token_even_where_the_head_is_silent(look_up):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(2, 4, bias=False)
            self.out = nn.Linear(2, 1)

        def forward(self, tokens):
            return self.out(look_up(self.head.weight, tokens).sum(1))

    found = live(Tied(), torch.tensor([[0, 2]]), {"out.weight": [[1, 0]]})
    assert found["head.weight"].tolist() == [[True, False], [False, False], [True, False], [False, False]]

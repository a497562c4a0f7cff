"""Which operation follows which rule. What no rule is for is taken to make everything depend on everything."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from pruneinit.reach import maps, products, rules
from pruneinit.reach.operation import Operation, Rule, binary


def follow(operation: Operation) -> Tensor:
    """The shadow of an operation's result, in its shape."""
    rule = RULES.get(operation.name) or (rules.pointwise if is_pointwise(operation.name) else rules.everything)
    try:
        shadow = rule(operation).expand(operation.out.shape)
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError):
        # An overload that the rule does not know. Too many paths are a smaller mistake than too few.
        shadow = rules.everything(operation).expand(operation.out.shape)
    return binary(shadow)


@cache
def is_pointwise(name: str) -> bool:
    """Whether PyTorch says of an operation that each element of its result depends on that of its place alone."""
    packet = getattr(torch.ops.aten, name, None)
    overloads = packet.overloads() if packet is not None else ()
    return any(torch.Tag.pointwise in getattr(packet, overload).tags for overload in overloads)


_NAMES: tuple[tuple[Rule, str], ...] = (
    (
        rules.same,
        """clone contiguous to type type_as float double half bfloat16 int long short bool cpu cuda detach alias
        positive dropout feature_dropout alpha_dropout feature_alpha_dropout native_dropout batch_norm layer_norm
        group_norm instance_norm rms_norm resolve_conj""",
    ),
    (rules.pointwise, "prelu log_sigmoid hardswish floor_divide mod and or xor invert complex polar"),
    (
        rules.as_is,
        """reshape reshape_as view view_as flatten unflatten ravel repeat tile repeat_interleave roll flip fliplr flipud
        rot90 tril triu cumsum avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d
        adaptive_avg_pool3d upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d
        _upsample_nearest_exact2d _upsample_nearest_exact3d upsample_linear1d upsample_bilinear2d
        upsample_trilinear3d pixel_shuffle pixel_unshuffle channel_shuffle im2col col2im diag diag_embed trace""",
    ),
    (rules.as_is, " ".join(rules.JOINS)),
    (rules.select, " ".join(rules.SELECTS)),
    (
        rules.collapse,
        """sum nansum mean nanmean max min amax amin argmax argmin prod std var std_mean var_mean norm
        linalg_vector_norm logsumexp all any median nanmedian mode kthvalue count_nonzero""",
    ),
    (rules.mix, "softmax log_softmax softmin cumprod cummax cummin logcumsumexp sort argsort msort topk"),
    (rules.overwrite, "copy fill"),
    (rules.embedding, "embedding"),
    (rules.one_hot, "one_hot"),
    (rules.glu, "glu"),
    (rules.padding, "pad"),
    (products.product, " ".join(products.PRODUCTS)),
    (products.add_product, " ".join(products.SUMS_WITH_PRODUCTS)),
    (products.einsum, "einsum"),
    (products.attention, "scaled_dot_product_attention"),
    (maps.adaptive_max_pool, "adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d"),
    (
        maps.max_pool,
        """max_pool1d max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices
        max_pool3d_with_indices""",
    ),
    (maps.over_places, "upsample_bicubic2d grid_sampler"),
)
RULES: dict[str, Rule] = {name: rule for rule, names in _NAMES for name in names.split()}

# Operations whose results have nothing of their arguments but the shape.
CONSTANTS = {
    *("zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like", "randint_like"),
    *("new_zeros", "new_ones", "new_empty", "new_full", "new_empty_strided", "new_tensor"),
    *("zero", "normal", "uniform"),
}

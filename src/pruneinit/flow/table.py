"""Which operation follows which rule."""

from __future__ import annotations

from pruneinit.flow import products, rules
from pruneinit.flow.rules import Rule
from pruneinit.reach.products import PRODUCTS, SUMS_WITH_PRODUCTS
from pruneinit.reach.rules import JOINS
from pruneinit.reach.table import CONSTANTS, is_pointwise

_QUOTIENTS = "div divide true_divide truediv rdiv rtruediv"
_MULTIPLIED = "mul multiply rmul"
_NAMES: tuple[tuple[Rule, str], ...] = (
    (
        rules.joint,
        """add radd clone contiguous reshape reshape_as flatten ravel repeat tile repeat_interleave roll flip fliplr
        flipud rot90 tril triu cumsum avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d
        adaptive_avg_pool3d max_pool1d max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices
        max_pool3d_with_indices adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d upsample_nearest1d
        upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d _upsample_nearest_exact2d
        _upsample_nearest_exact3d upsample_linear1d upsample_bilinear2d upsample_trilinear3d upsample_bicubic2d
        pixel_shuffle pixel_unshuffle channel_shuffle im2col col2im diag diag_embed trace getitem gather index_select
        take take_along_dim masked_select where masked_fill masked_scatter index_put scatter scatter_add index_add
        index_copy index_fill sum nansum mean nanmean max min amax amin median nanmedian kthvalue topk sort msort
        cummax cummin maximum minimum fmax fmin lerp fill zero norm linalg_vector_norm cdist_forward""",
    ),
    (rules.joint, " ".join(JOINS)),
    (rules.set_item, "setitem"),
    (rules.copy, "copy"),
    (
        rules.identity,
        """dropout feature_dropout alpha_dropout feature_alpha_dropout dropout1d dropout2d dropout3d native_dropout
        log_softmax log_sigmoid logsigmoid hardswish hardtanh relu6 prelu rrelu softsign tanhshrink positive pow neg
        abs relu elu selu celu gelu silu mish leaky_relu hardsigmoid softplus softshrink hardshrink threshold
        sigmoid tanh""",
    ),
    (rules.convert, "to type type_as float double half bfloat16 cpu cuda"),
    (rules.subtract, "sub subtract rsub"),
    (rules.logsumexp, "logsumexp"),
    (rules.spread, "var std"),
    (rules.inverse, "rsqrt reciprocal"),
    (rules.padding, "pad"),
    (rules.softmax, "softmax"),
    (rules.embedding, "embedding"),
    (products.product, " ".join(name for name in PRODUCTS if name not in (*_QUOTIENTS.split(), *_MULTIPLIED.split()))),
    (products.multiply, _MULTIPLIED),
    (products.quotient, _QUOTIENTS),
    (products.add_product, " ".join(SUMS_WITH_PRODUCTS)),
    (products.einsum, "einsum"),
    (products.attention, "scaled_dot_product_attention"),
    (products.normalisation, "batch_norm instance_norm layer_norm group_norm rms_norm"),
)
RULES: dict[str, Rule] = {name: rule for rule, names in _NAMES for name in names.split()}
# Answers that need the values themselves, although PyTorch calls these operations pointwise.
_QUESTIONS = {
    *("eq", "ne", "lt", "le", "gt", "ge", "isclose", "sign", "sgn", "signbit", "heaviside"),
    *("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not", "logical_and", "logical_or", "logical_not"),
}
# What is asked of a tensor without a look at its elements, or has nothing of them.
FREE = {
    *("size", "dim", "ndimension", "numel", "nelement", "stride", "is_contiguous", "storage_offset", "data_ptr"),
    *("untyped_storage", "element_size", "is_floating_point", "is_complex", "get_device", "requires_grad_", "len"),
    *("register_hook", "retain_grad", "is_same_size", "hash", "is_inference", "isnan", "isinf", "isfinite"),
} | (CONSTANTS - {"zero"})

# What takes elements out of PyTorch's sight.
UNSEEN = {"tolist", "numpy", "data_ptr", "untyped_storage", "storage", "dlpack"}


def rule_of(name: str) -> Rule | None:
    """The rule for an operation; None where there is none."""
    if name in RULES:
        return RULES[name]
    return rules.pointwise if is_pointwise(name) and name not in _QUESTIONS else None

"""Operator semantics: exceptions from comparison with float64. One table per reason; names as in the database.

An entry stands for all variants of its name unless it names one (`name.variant`).
"""

from __future__ import annotations

#: Cannot be judged at all here, and why. They are listed in the evidence and leave the denominator with this reason.
UNJUDGEABLE = {
    "jiterator_unary": "compiles CUDA source; no other device claims it",
    "jiterator_binary": "compiles CUDA source; no other device claims it",
    "jiterator_binary_return_by_ref": "compiles CUDA source; no other device claims it",
    "jiterator_2inputs_2outputs": "compiles CUDA source; no other device claims it",
    "jiterator_4inputs_with_extra_args": "compiles CUDA source; no other device claims it",
    "as_strided.partial_views": "takes views of memory that are lost when its inputs are copied",
    "sparse.sampled_addmm": "takes sparse tensors",
    "sparse.mm.reduce": "takes sparse tensors",
}

#: What PyTorch offers on the CPU and on no accelerator of its own, so that no model can rely on it: not asked of devices.
#: Of whole numbers its database tells by itself (int64 has no matrix products on CUDA); of others it tells what the machine
#: at hand has. Source: the database's dtypes for CUDA, and an H100 (torch 2.11, CUDA 13.0).
HOST_ONLY = {
    "float32": frozenset({"histogram", "histogramdd"}),
    "bfloat16": frozenset({"amp.unscale", "angle", "histc", "histogram", "histogramdd", "igamma", "igammac"}),
    "float16": frozenset({"angle", "histc", "histogram", "histogramdd", "igamma", "igammac"}),
}
#: The same for gradients.
HOST_ONLY_BACKWARD = {"bfloat16": frozenset({"nn.functional.embedding_bag"})}

#: Position of the share that they drop at random in training.
DROPS_AT_RANDOM = {"nn.functional.multi_head_attention_forward": 10}

#: So many of their outputs are results. The others are kept for the gradient: each device chooses dtype and shape.
RESULTS = {"_batch_norm_with_update": 1, "_native_batch_norm_legit": 1, "native_batch_norm": 1, "native_layer_norm": 1}

#: Choose some of equal values, and nobody says which: their gradient is held value by value, not place by place.
CHOOSES = frozenset({"kthvalue", "median", "mode", "msort", "nanmedian", "sort", "topk"})

#: Tell where what they chose stood, or which rows they exchanged: of equal values any will do. All other whole numbers, and
#: what is true or false, are the same on every device.
RETURNS_INDICES = CHOOSES | frozenset({
    "argmax", "argmin", "argsort", "cummax", "cummin", "max.reduction_with_dim", "min.reduction_with_dim",
    "nn.functional.adaptive_max_pool1d", "nn.functional.adaptive_max_pool2d", "nn.functional.adaptive_max_pool3d",
    "nn.functional.fractional_max_pool2d", "nn.functional.fractional_max_pool3d", "nn.functional.max_pool1d",
    "nn.functional.max_pool2d", "nn.functional.max_pool3d", "max_pool2d_with_indices", "max_pool3d_with_indices",
    "linalg.ldl_factor", "linalg.ldl_factor_ex", "linalg.lu", "linalg.lu_factor", "linalg.lu_factor_ex",
    "masked.argmax", "masked.argmin",
})  # fmt: skip

#: The CPU adds up in float64 what is float32: no yardstick for what adds up in float32.
ADDED_UP_WIDER = frozenset({"cumprod", "cumsum"})

#: Positions of arguments that PyTorch wants on the host, on every device.
HOSTED = {"tensor_split": frozenset({1})}

#: Memory as it was found: only shape, dtype and device are defined.
UNSPECIFIED = frozenset({
    "empty", "empty_like", "empty_permuted", "empty_strided", "new_empty", "new_empty_strided",
})  # fmt: skip

#: Whose results depend on one element of each input alone, besides what the database says of itself.
ELEMENTWISE = frozenset({
    "addcdiv", "addcmul", "clamp", "lerp", "nn.functional.celu", "nn.functional.elu", "nn.functional.gelu",
    "nn.functional.hardshrink", "nn.functional.hardsigmoid", "nn.functional.hardswish", "nn.functional.hardtanh",
    "nn.functional.leaky_relu", "nn.functional.logsigmoid", "nn.functional.mish", "nn.functional.prelu",
    "nn.functional.relu", "nn.functional.relu6", "nn.functional.selu", "nn.functional.silu", "nn.functional.softplus",
    "nn.functional.softshrink", "nn.functional.softsign", "nn.functional.tanhshrink", "nn.functional.threshold", "where",
})  # fmt: skip

#: Draw random numbers: shape, dtype, finite, and the same again from the same seed. Another device has another stream.
RANDOM = frozenset({
    "bernoulli", "cauchy", "exponential", "geometric", "log_normal", "multinomial", "nn.functional.alpha_dropout",
    "nn.functional.dropout", "nn.functional.dropout2d", "nn.functional.dropout3d",
    "nn.functional.feature_alpha_dropout", "nn.functional.fractional_max_pool2d", "nn.functional.fractional_max_pool3d",
    "nn.functional.rrelu", "normal", "pca_lowrank", "rand_like", "randint", "randint_like", "randn", "randn_like",
    "svd_lowrank", "uniform",
})  # fmt: skip

#: Come in no defined order: shape, dtype, finite, and the same again.
UNORDERED = frozenset({"linalg.eig", "linalg.eigvals"})

#: Ask for dense inputs at addresses that are multiples of 16, or take long: not tried on views.
NO_VIEWS = frozenset({"_grouped_mm", "mm.many_elements"})

#: Promise to lay their result in memory as their input lies, where that is dense, or plainly dense (`contiguous`).
KEEPS_STRIDES = frozenset({
    "clone", "contiguous", "empty_like", "full_like", "ones_like", "rand_like", "randn_like", "to", "zeros_like",
})  # fmt: skip

#: Subtract from its argument nearly the same, or what is nearly the largest: what is left may be small, and does not move
#: with a rounding of the argument.
SHRINKS = frozenset({
    "nn.functional.binary_cross_entropy_with_logits", "nn.functional.cross_entropy", "nn.functional.linear_cross_entropy",
    "nn.functional.tanhshrink",
})  # fmt: skip

#: Subtract the mean of whole numbers, of which only its rounding may be left: held to the square of the largest.
CENTRES = frozenset({"cov"})

#: Write what is left of a parameter after two steps. Each rounds the parameter once or twice, and what it subtracts, which
#: is a tenth to a third of the gradient, a few times: together less than four times, also where hardly anything is left.
UPDATES = frozenset({
    "optim.AdamW.foreach", "optim.AdamW.fused", "optim.AdamW.fused.found_inf", "optim.SGD.foreach", "optim.SGD.fused",
    "optim.SGD.fused.found_inf",
})  # fmt: skip

#: Make their tail of one plus what is nearly -1, on every device: each element is held to the size of its argument.
LOSES_TAILS = frozenset({"nn.functional.gelu"})

#: Have a gradient that near zero is what is left of terms as large as the inverse of their argument.
CANCELS_NEAR_ZERO = frozenset({"sinc"})

#: Count values in bins whose range they may take from the values.
COUNTS_IN_BINS = frozenset({"histc"})

#: Have a gradient that is no limit of their differences, by definition: the gradient of a step, or of what is written twice
#: to one place. Not held against difference quotients.
NO_QUOTIENTS = frozenset({
    "as_strided_scatter", "div.floor_rounding", "div.trunc_rounding", "floor_divide", "nextafter",
    "nn.functional.max_unpool1d", "nn.functional.max_unpool2d", "nn.functional.max_unpool3d", "round",
})  # fmt: skip

#: Subtract the mean and divide by the spread. Of two values that makes 1 and -1 whatever they are: moving them by a rounding
#: does not move the result, and yet all digits that they have in common are lost on the way.
NORMALISES = frozenset({
    "_batch_norm_with_update", "_native_batch_norm_legit", "corrcoef", "native_batch_norm", "native_group_norm",
    "native_layer_norm", "nn.functional.batch_norm", "nn.functional.group_norm", "nn.functional.instance_norm",
    "nn.functional.layer_norm",
})  # fmt: skip

#: Have no gradient where all values are one, and only rounding to show.
SPREADS = frozenset({"std", "std_mean", "var", "var_mean"})

#: Write to some of their arguments besides what they return: running statistics, rows that are too long.
WRITES_ARGUMENTS = frozenset({
    "_batch_norm_with_update", "_native_batch_norm_legit", "native_batch_norm", "nn.functional.batch_norm",
    "nn.functional.embedding_bag", "nn.functional.instance_norm",
})  # fmt: skip

#: Say what NaN and infinity become, element by element or in a reduction: tried with some among the values.
PASSES_NAN = frozenset({
    "abs", "add", "all", "amax", "amin", "any", "argmax", "cat", "clamp", "clone", "cumsum", "div.no_rounding_mode", "eq",
    "exp", "ge", "gt", "isfinite", "isinf", "isnan", "le", "log", "logical_and", "logical_not", "logical_or", "lt",
    "masked_fill", "max.reduction_with_dim", "maximum", "mean", "minimum", "mul", "nanmean", "nanmedian", "nansum", "ne",
    "log_softmax", "logsumexp", "neg", "nn.functional.binary_cross_entropy_with_logits",
    "nn.functional.group_norm", "nn.functional.huber_loss", "nn.functional.l1_loss", "nn.functional.layer_norm",
    "nn.functional.leaky_relu", "nn.functional.logsigmoid", "nn.functional.mse_loss", "nn.functional.relu",
    "nn.functional.rms_norm", "nn.functional.silu", "nn.functional.smooth_l1_loss", "nn.functional.softplus", "prod",
    "reciprocal", "rsqrt", "sigmoid", "softmax", "sort", "sqrt", "square", "sub", "sum",
    "tanh", "topk", "where",
})  # fmt: skip

#: The same for gradients: what detects an overflow looks for NaN among them.
PASSES_NAN_BACKWARD = frozenset({
    "abs", "add", "exp", "log_softmax", "mean", "mul", "nn.functional.layer_norm", "nn.functional.mse_loss",
    "nn.functional.relu", "nn.functional.rms_norm", "nn.functional.silu", "sigmoid", "softmax", "sqrt", "square", "sub",
    "sum", "tanh",
})  # fmt: skip

#: Move, select or compare values without computing new ones: forward results are equal bit by bit.
EXACT = frozenset({
    "H", "T", "__getitem__", "_chunk_cat", "abs", "alias_copy", "amax", "amin", "aminmax", "argmax", "argmin", "argsort",
    "argwhere", "as_strided", "as_strided_copy", "as_strided_scatter", "atleast_1d", "atleast_2d", "atleast_3d",
    "block_diag", "broadcast_tensors", "broadcast_to", "cartesian_prod", "cat", "ceil", "chunk", "clamp", "clamp_max",
    "clamp_min", "clone", "column_stack", "combinations", "complex", "conj", "conj_physical", "constant_pad_nd",
    "contiguous", "copysign", "cummax", "cummin", "diag", "diag_embed", "diagflat", "diagonal", "diagonal_copy",
    "diagonal_scatter", "dsplit", "dstack", "expand", "expand_as", "expand_copy", "eye", "fft.fftshift",
    "fft.ifftshift", "fill", "flatten", "flip", "fliplr", "flipud", "floor", "fmax", "fmin", "full_like", "gather",
    "hsplit", "hstack", "imag", "index_copy", "index_fill", "index_select", "kthvalue", "linalg.diagonal", "mH", "mT",
    "masked_fill", "masked_scatter", "masked_select", "max", "maximum", "median", "meshgrid", "min", "minimum", "mode",
    "movedim", "msort", "nanmedian", "narrow", "narrow_copy", "neg", "new_full", "new_ones", "new_zeros",
    "nn.functional.adaptive_max_pool1d", "nn.functional.adaptive_max_pool2d", "nn.functional.adaptive_max_pool3d",
    "nn.functional.channel_shuffle", "nn.functional.embedding", "nn.functional.max_pool1d", "nn.functional.max_pool2d",
    "nn.functional.max_pool3d", "nn.functional.max_unpool1d", "nn.functional.max_unpool2d",
    "nn.functional.max_unpool3d", "nn.functional.pad", "nn.functional.pixel_shuffle", "nn.functional.pixel_unshuffle",
    "nn.functional.relu", "nn.functional.unfold", "ones", "ones_like", "permute", "permute_copy", "positive", "put",
    "ravel", "real", "repeat", "repeat_interleave", "reshape", "reshape_as", "resolve_conj", "resolve_neg", "roll",
    "rot90", "scatter", "select", "select_scatter", "sgn", "sign", "slice", "slice_scatter", "sort", "split",
    "split_with_sizes", "split_with_sizes_copy", "squeeze", "squeeze_copy", "stack", "t", "t_copy", "take",
    "take_along_dim", "tensor_split", "tile", "topk", "transpose", "transpose_copy", "tril", "triu", "trunc", "unbind",
    "unbind_copy", "unflatten", "unfold", "unfold_copy", "unsafe_chunk", "unsafe_split", "unsqueeze",
    "unsqueeze_copy", "view", "view_as", "view_as_complex", "view_as_real", "view_copy", "vsplit", "vstack", "where",
    "zeros", "zeros_like",
})  # fmt: skip

#: Of those, what rounds after all where numbers are complex.
ROUNDED_IF_COMPLEX = frozenset({"abs", "sgn", "sign"})

#: Lose more digits than rounding of inputs and results explains, in PyTorch's own formulas and so on every device: how
#: many times more is forgiven. Seen on the CPU against float64 over many seeds.
ILL_CONDITIONED = {
    "_foreach_norm": 4.0,                    # seventy thousand squares, one after the other from either end
    "_upsample_bilinear2d_aa": 4.0,
    "corrcoef": 8.0,                         # of two columns it is exactly 1, and its gradient all cancellation
    "cov": 8.0,                              # gradients of its weights, in bfloat16: what is left of differences
    "erfinv": 4.0,                           # its gradient is made of the rounded result: by e to the square of that
    "grid_sampler_2d": 64.0,                 # half a rounding of the grid reaches another cell
    "grid_sampler_3d": 64.0,
    "histc": 64.0,                           # a value on the edge of a bin falls to either side
    "histogram": 64.0,
    "histogramdd": 64.0,
    "linalg.cond": 8.0,                      # and its kin: inputs that happen to be ill conditioned
    "linalg.eigh": 8.0,
    "linalg.eigvalsh": 8.0,
    "linalg.householder_product": 64.0,
    "linalg.lstsq": 8.0,
    "linalg.norm": 4.0,                      # powers and roots of high order
    "linalg.vector_norm": 16.0,              # the CPU sums a million squares one after the other; of many lists more
    "linalg.pinv": 8.0,
    "logcumsumexp": 1024.0,                  # its gradient goes through a logarithm of the cotangent
    "native_layer_norm": 4.0,                # in bfloat16 the CPU sums the gradients of weight and bias in bfloat16
    "nn.functional.ctc_loss": 8.0,
    "nn.functional.multi_head_attention_forward": 128.0,  # its samples saturate the softmax
    "nn.functional.triplet_margin_loss": 64.0,  # a rounding decides on which side of the hinge
    "nn.functional.triplet_margin_with_distance_loss": 64.0,
    "nn.functional.grid_sample": 64.0,
    "optim.AdamW.fused": 4.0,                # powers of the decay rates, in float32 or float64
    "sinc": 4.0,                             # its gradient near zero is all cancellation
    "special.erfcx": 32.0,
    "special.i0e": 8.0,
    "special.i1e": 8.0,
    "special.log_ndtr": 8.0,
    "pinverse": 8.0,
    "round.decimals_3": 64.0,                # half a rounding of the thousandfold decides where it goes
}

#: The same where numbers are complex, if that is more.
ILL_CONDITIONED_IF_COMPLEX = {
    "linalg.householder_product": 1024.0,    # its gradient undoes each reflection, by vectors of twice as many squares
}

#: Keep the logarithm of their sums in float32, and make every probability of the gradient of it: in float32 that costs twice
#: what other orders do, four times where one probability is nearly 1 and the gradient all cancellation; in 16 bits nothing.
KEEP_LOGARITHMS = frozenset({
    "attention.efficient", "attention.math", "nn.functional.scaled_dot_product_attention", "scaled_dot_product_attention",
})  # fmt: skip

#: Make their gradient of the logarithm that they returned: it errs by the rounding of that, however small it is itself.
FROM_LOGARITHM = frozenset({"logsumexp", "masked.logsumexp"})

#: Make their gradient of the rounded probabilities that they returned: where one is nearly 1 in every row, all of it is what
#: is left of terms as large as probabilities.
FROM_PROBABILITIES = frozenset({
    "_safe_softmax", "_softmax", "masked.softmax", "masked.softmin", "nn.functional.softmin", "softmax",
    "torch.ops.aten._safe_softmax.default",
})  # fmt: skip

#: Inner steps leave the range of these dtypes although the result would not (in gradients: squares and reciprocals of
#: small inputs), or rounding an exponent to an integer decides whether a power exists: elements not finite are left out.
OVERFLOWS = {
    "bfloat16": frozenset({"__rpow__", "float_power", "pow"}),
    "float16": frozenset({
        "__rdiv__", "__rpow__", "addcdiv", "cumprod", "digamma", "dist", "div", "float_power", "fmod",
        "index_reduce", "linalg.norm", "linalg.vector_norm", "masked.cumprod", "masked.normalize",
        "masked.prod", "nn.functional.binary_cross_entropy", "nn.functional.cosine_similarity",
        "nn.functional.normalize", "nn.functional.pairwise_distance", "nn.functional.soft_margin_loss", "norm",
        "polygamma", "pow", "prod", "reciprocal", "rsqrt", "special.polygamma", "tan", "true_divide",
    }),
}  # fmt: skip

#: Of those, what leaves it with most elements, on the CPU too: sums of squares, products, logarithms of sums of powers.
OVERFLOWS_MOSTLY = {"float16": frozenset({"linalg.vector_norm", "masked.prod", "nn.functional.soft_margin_loss"})}

#: Elementary functions, and what is made of them: each make has a library of its own, which may err by some roundings where
#: the CPU's errs by half of one (CUDA Programming Guide: rsqrtf 2 ulp, tanf 4, tgammaf 5). So many times as much is allowed
#: in float32; what is computed in less than that errs by thousands.
LIBM = 4.0
ELEMENTARY = frozenset({
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cos", "cosh", "digamma", "erf", "erfc", "erfinv",
    "exp", "exp2", "expm1", "float_power", "lgamma", "log", "log10", "log1p", "log2", "log_softmax", "logaddexp",
    "logaddexp2", "logit", "logsumexp", "mvlgamma", "nn.functional.celu", "nn.functional.elu", "nn.functional.gelu",
    "nn.functional.logsigmoid", "nn.functional.mish", "nn.functional.selu", "nn.functional.silu",
    "nn.functional.softmin", "nn.functional.softplus", "polygamma", "pow", "rsqrt", "sigmoid", "sin", "sinc", "sinh",
    "softmax", "sqrt", "tan", "tanh", "xlogy", "_softmax", "_log_softmax", "_safe_softmax", "sigmoid_backward",
    "tanh_backward", "silu", "gelu", "silu_backward", "gelu_backward", "softplus",
    *(f"_foreach_{name}" for name in (
        "acos", "asin", "atan", "cos", "cosh", "erf", "erfc", "exp", "expm1", "lgamma", "log", "log10", "log1p",
        "log2", "pow", "rsqrt", "sigmoid", "sin", "sinh", "sqrt", "tan", "tanh",
    )),
})  # fmt: skip

#: Whose whole numbers are places along one dimension of their only tensor.
INDICES_ALONG = frozenset({
    "argmax", "argmin", "argsort", "cummax", "cummin", "kthvalue", "max", "median", "min", "mode", "nanmedian",
    "sort", "topk",
})  # fmt: skip

#: What language models are trained and served with, as far as the database has it: dense and mixture-of-experts
#: transformers in their eager form, their losses, sampling, and what optimizers do.
CORE = frozenset({
    # attention, projections, experts
    "addmm", "baddbmm", "bmm", "einsum", "matmul", "mm", "nn.functional.linear",
    "nn.functional.scaled_dot_product_attention", "outer",
    # embedding, normalisation, activation, regularisation
    "nn.functional.dropout", "nn.functional.embedding", "nn.functional.gelu", "nn.functional.layer_norm",
    "nn.functional.relu", "nn.functional.rms_norm", "nn.functional.silu", "nn.functional.softplus", "sigmoid", "tanh",
    # softmax and losses
    "log_softmax", "logsumexp", "nn.functional.cross_entropy", "nn.functional.nll_loss", "softmax",
    # elementwise
    "abs", "add", "addcdiv", "addcmul", "clamp", "cos", "div.no_rounding_mode", "exp", "lerp", "log", "maximum",
    "minimum", "mul", "neg", "pow", "prod", "reciprocal", "rsqrt", "rsub", "sin", "sqrt", "square", "sub",
    # comparison and masks
    "eq", "ge", "gt", "isfinite", "isinf", "isnan", "le", "logical_and", "logical_not", "logical_or", "lt",
    "masked_fill", "ne", "tril", "triu", "where",
    # bits, as packed weights are taken apart
    "bitwise_and", "bitwise_left_shift", "bitwise_not", "bitwise_or", "bitwise_right_shift", "bitwise_xor", "unpack",
    # reduction and choice
    "all", "amax", "any", "argmax", "cumsum", "linalg.vector_norm", "max.reduction_with_dim", "mean", "multinomial",
    "sort", "std", "sum", "topk", "var",
    # shape, copy, index
    "arange", "cat", "chunk", "clone", "contiguous", "expand", "flatten", "full_like", "gather", "index_add",
    "index_copy", "index_put", "index_select", "narrow", "nn.functional.pad.constant", "nonzero", "ones_like",
    "permute", "repeat", "repeat_interleave", "reshape", "roll", "scatter", "scatter_add", "slice", "split", "squeeze",
    "stack", "to", "transpose", "unbind", "unsqueeze", "view", "zeros_like",
    # initialisation and shuffling
    "dropout.statistics", "multinomial.statistics", "multinomial.vocabulary", "normal.in_place", "normal.statistics",
    "randperm", "uniform",
    # beyond the database: lists of tensors, and what else optimizers, losses and experts do
    "_foreach_add", "_foreach_addcdiv", "_foreach_addcmul", "_foreach_copy", "_foreach_div", "_foreach_lerp",
    "_foreach_mul", "_foreach_neg", "_foreach_norm", "_foreach_reciprocal", "_foreach_sqrt", "_foreach_sub",
    "_foreach_zero", "attention.math", "clip_grad_norm", "index_put_.accumulate", "optim.AdamW.foreach",
    "optim.SGD.foreach",
})  # fmt: skip

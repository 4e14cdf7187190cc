"""Rules of the diagnosis, as data: by what failed requirements are one defect, how it is called, and what to do first.

Patterns are "CHECK MEASURE" with globs. Tests hold every rule against simulated chips with one planted defect each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from readiness.datamodel import Action

#: Requirements about whole models, of which operators are parts: they fail where an operator is wrong, missing or slow.
WHOLE_MODELS = (
    "parity.training *", "parity.inference *", "parity.layer *", "parity.recomputation gradient_error",
    "parity.recomputation supported", "stability.checkpoint resume_mismatches", "parity.determinism * op=training_step",
    "driver.autocast relative_error", "stability.load mismatches", "stability.load first_error", "stability.load errors",
    "stability.load supported", "operators.large *", "parity.special_values violations kind=precision",
    "model.serving wrong_tokens", "model.serving supported", "model.training supported",
)  # fmt: skip
#: What ranks do together and compute: any operator that is wrong on one chip spoils it, and every wrong collective.
SEVERAL_RANKS_COMPUTE = (
    "multichip.data_parallel *", "multichip.parallelism *", "multichip.recovery *", "multichip.elastic *",
    "multichip.soak *",
    "multichip.integrity wrong_results",
)  # fmt: skip
#: What ranks do together: it fails where a rank is lost.
SEVERAL_RANKS = (
    *SEVERAL_RANKS_COMPUTE, "multichip.integrity *", "multichip.collectives *", "multichip.links *", "multichip.bandwidth *",
    "multichip.drills *",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class OperatorRule:
    """Wording for operators of one outcome. `outcome` is as in the rows of operators.*, or "nan": wrong, and not finite.

    `follows` are the findings that such an operator explains besides, where dtype and phase may be its own.
    """

    id: str
    outcome: str
    sentence: str
    remedy: str
    action: Action
    follows: tuple[str, ...] = ()
    died: str = ""  # the status of checks that such an operator ends
    as_one: bool = False  # whatever operators there are, they are one defect


_REPORT = "Report it with the rows; until then use another implementation of the operator."
_ALONE = "Run the operator alone with the shapes in the rows of operators.sweep, and report it; keep it out of the model."
OPERATOR_RULES = (
    OperatorRule(
        "operator-missing", "missing", "{operators} cannot be used{phase}{in_dtypes}{layout}",
        "Update the plug-in, or replace the operator in the model; the rows quote what the stack said.",
        Action.UPDATE_SOFTWARE,
        (*WHOLE_MODELS, *SEVERAL_RANKS_COMPUTE), as_one=True,
    ),
    OperatorRule(
        "operator-crashes", "crash", "{operators} {end} the process{phase}{in_dtypes}{layout}", _ALONE,
        Action.CONTACT_VENDOR,
        (*WHOLE_MODELS, *SEVERAL_RANKS_COMPUTE), died="crashed",
    ),
    OperatorRule(
        "operator-hangs", "hang", "{operators} {do} not return{phase}{in_dtypes}{layout}", _ALONE, Action.CONTACT_VENDOR,
        (*WHOLE_MODELS, *SEVERAL_RANKS_COMPUTE), died="timeout",
    ),
    OperatorRule(
        "operator-nan", "nan", "{operators} {yield} NaN or infinity{phase}{in_dtypes}{layout}", _REPORT,
        Action.CONTACT_VENDOR, (*WHOLE_MODELS, *SEVERAL_RANKS_COMPUTE),
    ),
    OperatorRule(
        "operator-wrong", "wrong", "{operators} {give} wrong {results}{in_dtypes}{layout}", _REPORT,
        Action.CONTACT_VENDOR, (*WHOLE_MODELS, *SEVERAL_RANKS_COMPUTE),
    ),
    OperatorRule(
        "operator-nondeterministic", "nondeterministic",
        "{operators} {give} other bits for equal inputs{phase}{in_dtypes}{layout}",
        "Look for a deterministic mode of the stack's for it, and report the operators.", Action.CHECK_CONFIG,
        ("parity.determinism * op=training_step", "stability.load unrepeatable", "stability.checkpoint resume_mismatches"),
    ),
    OperatorRule(
        "operator-on-host", "CPU fallback", "{operators} {run} on the host's CPU instead of the accelerator{in_dtypes}",
        "Keep the operator out of inner loops, and ask the vendor for a kernel.", Action.CONTACT_VENDOR,
        ("stability.pace *", "operators.workload *"), as_one=True,
    ),
    OperatorRule(
        "operator-slow", "slow", "{operators} {take} far longer than on the host{in_dtypes}",
        "Look at clocks and power limit first; then ask the vendor for a faster kernel.", Action.CHECK_CONFIG,
        ("stability.pace slowdown",), as_one=True,
    ),
)  # fmt: skip
#: In place of the rule about other bits, for operators whose results also lie beyond their bounds.
VARYING_AND_WRONG = OperatorRule(
    "operator-nondeterministic", "nondeterministic",
    "{operators} {give} wrong {results}, and other ones for equal inputs{in_dtypes}{layout}", _REPORT, Action.CONTACT_VENDOR,
    ("stability.load unrepeatable", *WHOLE_MODELS, *SEVERAL_RANKS_COMPUTE),
)  # fmt: skip
#: What computes no gradient: an operator that fails in gradients alone explains none of it.
FORWARD_ONLY = ("parity.inference *", "parity.special_values *", "* * phase=forward")
#: Which outcome of an operator each finding of these is about.
OUTCOMES: Mapping[str, tuple[str, ...]] = {
    "operators.* missing": ("missing",), "operators.* errors": ("missing",), "operators.* wrong": ("wrong",),
    "operators.* crashed": ("crash", "hang"), "operators.* nondeterministic": ("nondeterministic",),
    "operators.* fallbacks": ("CPU fallback",), "operators.* fallback_share": ("CPU fallback",),
    "operators.* *_coverage": ("missing", "wrong", "crash", "hang"),
    "operators.* obstacles": ("missing", "wrong", "crash", "hang", "nondeterministic"),
    "parity.attention supported": ("missing",), "parity.matmul supported": ("missing",),
    "parity.reductions supported": ("missing",), "parity.normalisation supported": ("missing",),
    "parity.determinism supported": ("missing",), "parity.determinism distinct_results": ("nondeterministic",),
    "parity.* bound_ratio": ("wrong",), "parity.* relative_error": ("wrong",), "parity.* masked_row_violations": ("wrong",),
    "stability.pace fallbacks": ("CPU fallback",), "stability.pace slowdown": ("slow",),
    "stability.pace supported": ("missing",),
}  # fmt: skip
#: The operator that a finding is about if no label names it.
IMPLIED: Mapping[str, str] = {
    "parity.attention": "attention", "parity.normalisation": "softmax", "parity.matmul": "matmul",
}  # fmt: skip
#: From so many different operators on, one dtype or one layout is at fault rather than each of them.
WIDESPREAD = 6
#: So many unrelated operators that are wrong at once have one cause below them all.
MOST_APART = 3
#: What one operator's failure carries into others, by name: globs of its own names, and of operators that are made of it.
FAMILIES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "matmul": (
        ("matmul", "mm", "bmm", "addmm", "addbmm", "baddbmm", "mv", "addmv", "dot", "vdot", "inner", "linear", "__rmatmul__",
         "addmm.*", "mm.*", "bmm.*", "matmul *", "linear *"),
        ("linear*", "linalg.*", "attention*", "scaled_dot_product_attention*", "multi_head_attention*", "einsum",
         "tensordot",
         "chain_matmul", "outer", "ger", "addr", "kron", "bilinear", "svd*", "pca_lowrank", "cdist", "ormqr", "lu*",
         "pinverse",
         "corrcoef", "cov", "cholesky*", "triangular_solve", "conv*", "lstm*", "gru*", "rnn*", "training_step", "matrix_exp",
         "experts*", "grouped_mm*", "_grouped_mm*"),
    ),
    "where": (
        ("where*",), ("masked_fill*", "clamp*", "maximum", "minimum", "pow", "prod", "attention*", "nan_to_num",
         "masked_scatter"),
    ),
    "softmax": (
        ("softmax*", "_softmax*", "log_softmax*", "softmin*", "_log_softmax*"),
        ("attention*", "scaled_dot_product_attention*", "multi_head_attention*", "cross_entropy*", "gumbel_softmax*",
         "linear_cross_entropy*", "training_step", "*safe_softmax*", "masked.softmax*", "masked.log_softmax*",
         "masked.softmin*"),
    ),
    "attention": (
        ("attention*", "scaled_dot_product_attention*", "_scaled_dot_product*", "*flash_attention*",
         "*efficient_attention*"),
        ("multi_head_attention*", "training_step"),
    ),
    "layer_norm": (("layer_norm*", "native_layer_norm*"), ("group_norm*", "training_step")),
    "rms_norm": (("rms_norm*", "_fused_rms_norm*"), ("training_step",)),
    "batch_norm": (("batch_norm*", "native_batch_norm*", "_native_batch_norm*", "_batch_norm*"), ("instance_norm*",)),
    "convolution": (("conv1d*", "conv2d*", "conv3d*", "conv_transpose*", "convolution*"), ()),
    "embedding": (("embedding*",), ("training_step",)),
    "cross_entropy": (("cross_entropy*", "nll_loss*"), ("linear_cross_entropy*", "training_step")),
    "sum": (("sum", "sum.*", "sum *", "sum_to_size", "nansum"), ("mean*", "trace", "norm*",
    "linalg.*norm*", "cov")),
    "variance": (("var*", "std*"), ("normalize*",)),
    "cumsum": (("cumsum*",), ("cumprod*", "cumulative_trapezoid*", "logcumsumexp*")),
    "sort": (("sort*", "argsort*", "msort*"), ("quantile*", "nanquantile*", "median*", "nanmedian*", "kthvalue*",
    "topk*", "unique*", "mode*")),
    "cat": (("cat*",), ("stack*", "hstack*", "vstack*", "dstack*", "column_stack*", "block_diag*", "cartesian_prod*")),
    "upsample": (("upsample*", "interpolate*"), ()),
    "grid_sample": (("grid_sample*", "grid_sampler*"), ()),
    "pooling": (("*max_pool*", "*avg_pool*", "*lp_pool*"), ()),
}  # fmt: skip
#: Prefixes and suffixes of names that do not identify the operator.
PREFIXES = ("torch.ops.aten.", "aten::", "aten.", "torch.nn.functional.", "nn.functional.", "torch.", "ops.", "special.")
#: Layouts of inputs: the glob in rows of operators.* and parity.*, and the word for it.
LAYOUTS: Mapping[str, str] = {
    "on a strided input*": "where inputs are strided", "on an input at an offset*": "where inputs begin at an offset",
    "*permuted*": "where inputs are strided", "*transposed*": "where inputs are strided",
    "sliced*": "where inputs are strided", "every second*": "where inputs are strided",
    "*unaligned*": "where inputs begin at an offset",
    "with an expanded incoming gradient*": "where the incoming gradient is expanded",
    "on expanded inputs*": "where inputs are expanded", "on a channels-last input*": "where inputs lie in channels_last",
    "on NaN*": "where inputs hold NaN", "in deterministic mode*": "in deterministic mode",
    "on extreme whole numbers*": "on extreme whole numbers",
    "with a single number of another dtype*": "beside a number of another dtype",
}  # fmt: skip
#: What other checks find in the same circumstance is the same defect.
SAME_CIRCUMSTANCE: Mapping[str, tuple[str, ...]] = {
    "where inputs hold NaN": ("parity.special_values violations kind=propagation",),
}
NOT_FINITE = ("NaN", "infinity", "not finite", "Infinity")


#: Stands for every number above zero among the values of a cell.
POSITIVE = ">0"


@dataclass(frozen=True, slots=True)
class Rule:
    """One defect. `shows` are the findings by which it is known, `follows` those that it explains besides.

    In `sentence` stand what labels and reasons name: {about} is the reason of the worst finding, {chips} whom the evidence
    blames, and {NAME} or {in_NAME} a label. `statuses` keep it to checks that ended so. `unless` names findings beside
    which another rule knows better. The first rule that fits a finding has it.
    """

    id: str
    shows: tuple[str, ...]
    sentence: str
    remedy: str
    action: Action
    follows: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    bad: tuple[str, tuple[object, ...]] | None = None  # a cell of rows, and the values of it that stand for trouble
    names: tuple[str, ...] = ()                         # the cells of such rows that say what they are about
    absorbs: tuple[str, ...] = ()                       # operators whose slowness is this defect's doing


RULES = (
    Rule(
        "device-lost", ("*",),
        "The accelerator is lost to the process that uses it: {about}",
        "Reset the accelerator or reboot the host, run driver.* alone, and read the driver's log.",
        Action.RESET_DEVICE, follows=("*",), words=("device is lost", "device lost", "DEVICE_LOST", "device was lost"),
    ),
    Rule(
        "versions", ("driver.stack *", "multichip.world software_differences", "multichip.world variable_differences"),
        "Parts of the software stack do not fit each other: {about}",
        "Install parts of one release; the rows of driver.stack name the rule and its source.",
        Action.UPDATE_SOFTWARE, bad=("ruling", ("broken",)), names=("why",),
    ),
    Rule(
        "device-health", ("driver.health faults", "driver.health fatal_faults", "driver.health unknown_codes"),
        "The vendor's own management says that the accelerator is faulty: {about}",
        "Do what the vendor's list of faults asks for; the rows of driver.health name fault and action.",
        Action.CONTACT_VENDOR,
    ),
    Rule(
        "faults-under-load", ("driver.under_load errors_per_s",),
        "Fault counters rise while the accelerator works: {about}",
        "Look the counter up in the vendor's list of faults, and follow its action before anything else.",
        Action.CONTACT_VENDOR, bad=("rise", (POSITIVE,)), names=("phase", "counter"),
    ),
    Rule(
        "fault-counters", ("driver.faults new_faults", "driver.faults standing_faults", "multichip.bandwidth link_faults",
                           "multichip.bandwidth link_retries"),
        "The accelerator itself counts faults: {about}",
        "Look the counter up in the vendor's list of faults, and follow its action before anything else.",
        Action.CONTACT_VENDOR, bad=("new", (POSITIVE,)), names=("counter",),
    ),
    Rule(
        "memory-leak", ("* memory_growth_bytes", "* handle_growth", "stability.caches kept_bytes"),
        "Memory is not given back: {about}",
        "Run the same work for an hour and watch its memory; report it with the rows.",
        Action.CONTACT_VENDOR,
    ),
    Rule(
        "out-of-memory", ("driver.memory oom_*",),
        "The accelerator is not usable after it ran out of memory: {about}",
        "Restart the process after every out-of-memory error, and report it.",
        Action.UPDATE_SOFTWARE, follows=("driver.memory *",),
    ),
    Rule(
        "memory-wrong", ("driver.memory wrong_bytes", "throughput.memory wrong_bytes"),
        "Memory does not hold what was written: {about}",
        "Take the accelerator out of service and have its memory tested.",
        Action.REPLACE, follows=("driver.memory *",),
    ),
    Rule(
        "memory-small", ("driver.memory usable_gib how=reported",),
        "It has less memory than the model needs",
        "Take an accelerator with more memory, or share the model among more of them.",
        Action.ADD_HARDWARE,
    ),
    Rule(
        "memory-short", ("driver.memory allocated_share", "driver.memory usable_gib", "throughput.memory capacity_share"),
        "Not all of the memory can be used: {about}",
        "See what else uses the accelerator's memory.",
        Action.CHECK_CONFIG,
    ),
    Rule(
        "kernel-log", ("driver.kernel_log *",),
        "The kernel's log tells of a fault of the accelerator: {about}",
        "Do what the vendor's list asks for after this event; the rows of driver.kernel_log quote the line and its action.",
        Action.CONTACT_VENDOR,
    ),
    Rule(
        "processes", ("driver.processes *",),
        "Processes that share the accelerator, or are killed at work, harm others: {about}",
        "Give each process an accelerator of its own, reset it after a kill, and report it with the rows.",
        Action.CONTACT_VENDOR,
    ),
    Rule(
        "errors-lost", ("driver.errors *",),
        "Calls that fail do not say so: {about}",
        "Check indices and sizes on the host until it is mended, and report it.",
        Action.CONTACT_VENDOR,
    ),
    Rule(
        "figures-wrong", ("driver.memory_statistics *", "driver.profiler *", "throughput.* timer_ratio"),
        "Figures that the stack reports are wrong: {about}",
        "Measure time and memory from outside until it is mended; whatever else was measured by them is wrong too.",
        Action.UPDATE_SOFTWARE,
    ),
    Rule(
        "exchange", ("driver.dlpack *",),
        "Memory that is handed to another library by DLPack arrives wrong: {about}",
        "Copy through the host until it is mended, and report it.",
        Action.CONTACT_VENDOR,
    ),
    Rule(
        "order", ("driver.streams *",),
        "Work of several streams is not kept in order: {about}",
        "Keep to one stream until the vendor has mended it, and report it.",
        Action.CONTACT_VENDOR, follows=("driver.copies *",), bad=("kept", (False,)), names=("promise",),
    ),
    Rule(
        "copies-wrong", ("driver.copies *", "throughput.copies wrong_bytes"),
        "Copies between host and accelerator do not arrive as they were sent: {about}",
        "Copy synchronously and from pageable memory until it is mended, and report it.",
        Action.CONTACT_VENDOR,
    ),
    Rule(
        "opens", ("driver.lifecycle *",),
        "The accelerator cannot be opened and closed reliably: {about}",
        "Look into the driver's log; reset the accelerator.",
        Action.RESET_DEVICE,
    ),
    Rule(
        "random", ("driver.random *", "parity.recomputation broken_promises"),
        "Random numbers are not what the generator promises: {about}",
        "Draw random numbers on the host until it is mended, and report it.",
        Action.CONTACT_VENDOR, follows=("parity.recomputation *",), bad=("kept", (False,)), names=("promise",),
    ),
    Rule(
        "autocast", ("driver.autocast *",),
        "Automatic mixed precision does not do what it promises: {about}",
        "Cast by hand, and report it.",
        Action.UPDATE_SOFTWARE, follows=("parity.training *",),
    ),
    Rule(
        "special-values", ("parity.special_values violations",),
        "Special values are not handled as they should be{in_dtype}: {about}",
        "Look for a setting of the stack's that flushes or saturates them; until then keep such values out of the model.",
        Action.CHECK_CONFIG, follows=("parity.special_values *",), bad=("correct", (False,)), names=("kind", "feature"),
    ),
    Rule(
        "drifts-under-load", ("stability.load mismatches", "stability.load unrepeatable"),
        "Results change while the accelerator is under load: {about}",
        "Take the accelerator out of service and run stability.load for an hour: silent corruption spoils every model.",
        Action.REPLACE, follows=("stability.load *",),
    ),
    Rule(
        "errors-under-load", ("stability.load errors",),
        "Calls fail while the accelerator is under load: {about}",
        "Read the driver's log at that time, and report it with the rows.",
        Action.CONTACT_VENDOR, follows=("stability.load *",),
    ),
    Rule(
        "throttles", ("driver.under_load throttled_share", "stability.load speed_kept", "multichip.soak pace_kept"),
        "The accelerator gets slower under load: {about}",
        "Look at temperature, power limit and clocks while it works; see to its cooling.",
        Action.CHECK_CONFIG,
    ),
    Rule(
        "copies-slow", ("throughput.copies *",),
        "Copies between host and accelerator are slow: {about}",
        "Look at the slot's lanes and pace, and whether another device shares them.",
        Action.CHECK_CONFIG, absorbs=("cast", "copy*", "clone*", "contiguous*"),
    ),
    Rule(
        "work-lost", ("throughput.stream wrong_values", "throughput.launch lost_calls"),
        "Work that was started is not done, done twice, or done wrong: {about}",
        "Believe no figure of this accelerator; report it with the rows.",
        Action.CONTACT_VENDOR, follows=("throughput.stream *", "throughput.launch *"),
    ),
    Rule(
        "slow", ("stability.pace slowdown", "throughput.* *"),
        "Operations take longer than they should: {about}",
        "Look at clocks and power limit; ask the vendor for a kernel of the operation.",
        Action.CHECK_CONFIG,
    ),
    Rule(
        "drill", ("multichip.drills *",),
        "A fault of a rank is not handled as it should be: {about}",
        "Set the time limit of collectives that the stack honours, and restart the whole group after every fault.",
        Action.CHECK_CONFIG,
    ),
    Rule(
        "rank-lost", ("multichip.* completed", "multichip.elastic restarted"),
        "Work of several ranks does not come to its end: {about}",
        "Run the named rank's chip alone; look into the driver's log and at its links.",
        Action.CONTACT_VENDOR, follows=SEVERAL_RANKS,
    ),
    Rule(
        "collective-wrong",
        ("multichip.collectives wrong_elements", "multichip.collectives sum_error", "multichip.collectives nan_lost",
         "multichip.collectives infinities_wrong", "multichip.links wrong_elements", "multichip.integrity wrong_results",
         "multichip.bandwidth wrong_results", "multichip.collectives repeat_mismatches",
         "multichip.collectives repeat_spread",
         "multichip.links rank_mismatches", "multichip.collectives barriers_left_early"),
        "Collectives give wrong results{in_op}{in_dtype}: {about}",
        "Report the operation, dtype and ranks in the rows; try another algorithm or protocol of the collective library.",
        Action.CONTACT_VENDOR, follows=(*SEVERAL_RANKS_COMPUTE, "multichip.collectives *"),
    ),
    Rule(
        "collective-unsupported", ("multichip.collectives unsupported", "multichip.parallelism supported"),
        "The collective library lacks what training needs{in_op}{in_dtype}: {about}",
        "Update the collective library.",
        Action.UPDATE_SOFTWARE, follows=SEVERAL_RANKS_COMPUTE,
    ),
    Rule(
        "checkpoint", ("stability.checkpoint *", "multichip.recovery state_mismatches", "multichip.recovery broken_refused",
                       "multichip.recovery reshard_difference", "multichip.recovery resume_mismatches"),
        "A checkpoint does not bring back what was saved: {about}",
        "Save and load over the host's memory, compare every tensor after loading, and report it.",
        Action.CONTACT_VENDOR, follows=("multichip.recovery *", "multichip.elastic *"),
    ),
    Rule(
        "straggler", ("multichip.links straggler_*",),
        "One chip makes all others wait: {about}",
        "Run the named chip alone; look at its clocks, its temperature and its host's load.",
        Action.CHECK_CONFIG, follows=("multichip.bandwidth *", "multichip.links *"),
    ),
    Rule(
        "link-interrupted", ("multichip.links interruptions",),
        "Links between chips stop for a while now and then: {about}",
        "Look at the named link: cable, seating and error counters; ask for its retrain count.",
        Action.CHECK_CONFIG, follows=("multichip.links *", "multichip.bandwidth *"),
    ),
    Rule(
        "link-slow", ("multichip.links *", "multichip.bandwidth *"),
        "Links between chips are slow or unsteady: {about}",
        "Look at the named link: cable, lanes, route and error counters.",
        Action.CHECK_CONFIG,
    ),
    Rule(
        "chips-few", ("multichip.world chips",),
        "There are fewer chips than the model needs",
        "Assess a machine with as many chips as the profile asks for, or several hosts (--host).",
        Action.ADD_HARDWARE,
    ),
    Rule(
        "ranks-differ", ("multichip.*",),
        "Training on several ranks differs from training on one: {about}",
        "Compare the losses in the rows step by step; run multichip.collectives and parity.training.",
        Action.GATHER_EVIDENCE,
    ),
    Rule(
        "check-crashed", ("*",),
        "The process dies in {check}: {about}",
        "Run that check alone with -k and read its log in the JSON assessment.",
        Action.CONTACT_VENDOR, statuses=("crashed",),
    ),
    Rule(
        "check-hangs", ("*",),
        "Time ran out in {check}: {about}",
        "Run that check alone with -k and a longer --timeout, and read its log in the JSON assessment.",
        Action.CONTACT_VENDOR, statuses=("timeout",),
    ),
    Rule(
        "execution", ("parity.execution wrong", "parity.compiled loss_error", "parity.compiled weight_error",
                      "model.training compiled_loss_error"),
        "The same model computes something else where it is compiled, captured or packed: {about}",
        "Run it call by call, with its weights as they are, until it is mended; report it with the rows.",
        Action.CONTACT_VENDOR, follows=("parity.execution *", "parity.compiled *"),
    ),
    Rule(
        "whole-model", WHOLE_MODELS,
        "Whole models go wrong{in_dtype} although each operator tried alone is right: {about}",
        "Compare the gradients in the rows of parity.training one by one, from the last layer to the first.",
        Action.GATHER_EVIDENCE,
    ),
)  # fmt: skip

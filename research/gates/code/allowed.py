"""What edited code may name: the allow-lists of the gate "code". Data, no logic.

For modules, for the names of modules that are not torch, and for builtins. Below ``torch``, ``triton`` and ``numpy``,
whose names nobody can list, ``refused`` says what is refused.
"""

from __future__ import annotations

import builtins
import re

# Modules whose public names (``__all__``, or all of a C module) do nothing but calculate.
PURE = frozenset(
    "__future__ abc bisect cmath collections collections.abc contextlib copy dataclasses enum fractions functools "
    "heapq "
    "itertools math numbers operator re statistics typing typing_extensions".split()
)  # fmt: skip
# They are harmless, yet a reviewer should know.
NOTED = {
    "random": "its numbers do not follow the run's seed; use torch, which the harness seeds",
    "warnings": "it can hide what a person should read in the log",
}
ONLY = {"types": frozenset({"SimpleNamespace", "NoneType", "EllipsisType"})}

TORCH = frozenset(
    "torch torch.nn torch.nn.functional torch.nn.init torch.nn.modules torch.nn.parameter torch.nn.parallel "
    "torch.nn.utils torch.nn.utils.parametrize torch.nn.utils.parametrizations torch.nn.utils.rnn "
    "torch.nn.utils.stateless torch.nn.attention torch.nn.attention.flex_attention torch.nn.attention.bias "
    "torch.optim torch.optim.lr_scheduler torch.optim.optimizer torch.optim.swa_utils torch.autograd "
    "torch.autograd.function torch.autograd.functional torch.autograd.graph torch.autograd.forward_ad torch.func "
    "torch.linalg torch.fft torch.special torch.amp torch.cuda torch.cuda.amp torch.mps torch.cpu torch.backends "
    "torch.backends.cuda torch.backends.cudnn torch.backends.mps torch.compiler torch.library torch.distributions "
    "torch.random torch.utils torch.utils.checkpoint torch.types torch.sparse torch.masked torch.nested torch.signal "
    "torch.signal.windows torch.jit torch.ops torch._dynamo".split()
)  # fmt: skip
TRITON = frozenset(
    "triton triton.language triton.language.math triton.language.extra triton.language.extra.libdevice "
    "triton.language.extra.cuda triton.language.extra.cuda.libdevice triton.tools triton.tools.tensor_descriptor "
    "triton.testing".split()
)  # fmt: skip
NUMPY = frozenset({"numpy", "numpy.linalg", "numpy.fft", "numpy.random", "numpy.typing"})
MODULES = PURE | TORCH | TRITON | NUMPY | NOTED.keys() | ONLY.keys()

# Seen by a person: allowed, but they change how far a result can be trusted or repeated.
WARNED = {
    "torch.manual_seed": "the seed is the run's; pairs of runs share it",
    "torch.seed": "the seed is the run's; pairs of runs share it",
    "torch.initial_seed": "the seed is the run's; pairs of runs share it",
    "torch.random": "the seed is the run's; pairs of runs share it",
    "torch.set_rng_state": "the seed is the run's; pairs of runs share it",
    "torch.get_rng_state": "the seed is the run's; pairs of runs share it",
    "torch.cuda.manual_seed": "the seed is the run's; pairs of runs share it",
    "torch.cuda.manual_seed_all": "the seed is the run's; pairs of runs share it",
    "torch.cuda.seed": "the seed is the run's; pairs of runs share it",
    "torch.cuda.set_rng_state": "the seed is the run's; pairs of runs share it",
    "torch.default_generator": "the seed is the run's; pairs of runs share it",
    "torch.autograd.set_multithreading_enabled": "it changes what other code does",
    "torch.autograd.set_detect_anomaly": "it changes what other code does",
    "torch.autograd.anomaly_mode.set_detect_anomaly": "it changes what other code does",
    "torch.distributions.Distribution.set_default_validate_args": "it changes what other code does",
    "torch.sparse.check_sparse_tensor_invariants": "it changes what other code does",
    "torch.Generator": "its seed has to follow run.seed",
    "numpy.random": "its numbers do not follow the run's seed",
    "torch.use_deterministic_algorithms": "it decides whether a run can be repeated",
    "torch.set_num_threads": "it changes how much of the machine is used",
    "torch.set_num_interop_threads": "it changes how much of the machine is used",
    "torch.set_default_dtype": "it changes what other code does",
    "torch.set_grad_enabled": "it changes what other code does",
    "torch.is_grad_enabled": "the model may behave otherwise when it is scored",
    "torch.is_inference_mode_enabled": "the model may behave otherwise when it is scored",
    "torch.cuda.is_available": "the model may behave otherwise where it is scored",
    "torch.compile": "it compiles by settings of its own; run.compile does so as the campaign says",
    "torch.cuda.synchronize": "it slows every step down",
    "torch.mps.synchronize": "it slows every step down",
    "torch.accelerator.synchronize": "it slows every step down",
    "torch.cpu.synchronize": "it slows every step down",
    "torch.cuda.Stream": "what runs beside the step is easily raced",
    "torch.backends": "it changes the arithmetic of everything in the process",
    "torch.flip": "it may let a token see what comes after it",
    "torch.fliplr": "it may let a token see what comes after it",
    "torch.roll": "it may let a token see what comes after it, or another row",
    "torch.fft": "it may mix a token with what comes after it",
    "torch.nn.BatchNorm1d": "it mixes rows, which the scorer refuses",
    "torch.nn.BatchNorm2d": "it mixes rows, which the scorer refuses",
    "torch.nn.LazyBatchNorm1d": "it mixes rows, which the scorer refuses",
    "torch.nn.SyncBatchNorm": "it mixes rows, which the scorer refuses",
    "torch.nn.InstanceNorm1d": "it may mix a token with what comes after it",
    "torch.nn.GroupNorm": "it may mix a token with what comes after it",
    "torch.nn.functional.batch_norm": "it mixes rows, which the scorer refuses",
    "torch.nn.functional.instance_norm": "it may mix a token with what comes after it",
    "torch.nn.functional.group_norm": "it may mix a token with what comes after it",
    "torch.nn.MultiheadAttention": "without a mask it sees what comes after a token",
    "torch.nn.TransformerEncoder": "without a mask it sees what comes after a token",
    "torch.nn.TransformerEncoderLayer": "without a mask it sees what comes after a token",
    "torch.nn.functional.fold": "it may mix a token with what comes after it",
    "triton.language.device_print": "it fills the log",
    "triton.set_allocator": "it hands memory to every kernel in the process",
    "torch.compiler.set_stance": "it changes how everything in the process is compiled",
    "functools.lru_cache": "what it keeps is remembered between calls",
    "functools.cache": "what it keeps is remembered between calls",
    "torch.jit": "it reads its own source and makes other code of it",
    "torch.ops": "it reaches operations below torch's public names",
    "torch._dynamo": "it changes how everything in the process is compiled",
}
# Below torch, names that begin with _ are refused but for these, which calculate.
PRIVATE_TORCH = (
    "torch._foreach_", "torch._fused_", "torch._scaled_", "torch._grouped_mm", "torch._int_mm", "torch._weight_",
    "torch._addmm_activation", "torch._assert", "torch._dynamo.mark_", "torch._dynamo.maybe_mark_",
    "torch._dynamo.disable", "torch._dynamo.graph_break", "torch._dynamo.allow_in_graph", "torch._softmax",
    "torch._log_softmax", "torch._efficient_attention", "torch._scaled_dot_product",
    "torch.optim.lr_scheduler._LRScheduler",
)  # fmt: skip

BUILTINS = frozenset(
    "ArithmeticError AssertionError AttributeError Ellipsis Exception False FloatingPointError IndexError KeyError "
    "LookupError None NotImplemented NotImplementedError OverflowError RuntimeError StopIteration True TypeError "
    "ValueError ZeroDivisionError ImportError abs all any bin bool callable classmethod complex dict divmod enumerate "
    "filter float frozenset hasattr hash hex id int isinstance issubclass iter len list map max min next object oct "
    "pow print property range repr reversed round set slice sorted staticmethod str sum super tuple zip type ord "
    "format __name__ __doc__ chr bytes bytearray".split()
)  # fmt: skip
REFUSED_BUILTINS = frozenset(dir(builtins)) - BUILTINS - {"getattr", "setattr"}
MODULE_NAMES = frozenset(
    {"__builtins__", "__file__", "__loader__", "__spec__", "__package__", "__path__", "__cached__"}
)
WARNED_BUILTINS = {
    "chr": "it can spell a name that nobody reads",
    "bytes": "it can spell a name that nobody reads",
    "bytearray": "it can spell a name that nobody reads",
    "hash": "of text, it differs from process to process",
    "id": "it differs from process to process",
}

# Methods and attributes that are refused on anything, as nobody can tell what the thing is.
REFUSED_ATTRIBUTES = frozenset(
    "tofile fromfile from_file share_memory_ share_memory from_buffer untyped_storage typed_storage storage_ptr "
    "load_library system popen spawn fork execv f_globals f_locals f_builtins f_back f_code gi_frame gi_code cr_frame "
    "ag_frame tb_frame tb_next co_code co_consts func_globals mro environ getenv putenv read_text write_text "
    "read_bytes "
    "write_bytes unlink rmtree symlink_to hardlink_to urlopen urlretrieve connect sendall recv modules_by_name "
    "fromhex maketrans format_map with_traceback load_module exec_module find_spec run_module importlib builtins "
    "__builtins__ bltns subprocess ctypes pickle marshal sys os posix socket inspect threading signal_handler "
    "register_module_forward_hook register_module_forward_pre_hook register_module_full_backward_hook "
    "register_load_state_dict_pre_hook register_load_state_dict_post_hook register_state_dict_pre_hook "
    "register_state_dict_post_hook set_source breakpoint getsource check_output perf_counter perf_counter_ns "
    "monotonic time_ns process_time elapsed_time cudart is_alive dump dumps storage globaltimer obj "
    "inline_asm_elementwise extern_elementwise load_inline resolve_name get_type_hints evaluate_forward_ref _convert_ "
    "change_current_allocator caching_allocator_alloc memrealtime py_impl py_kernels py_functionalize_impl "
    "python_key_table debug_dump".split()
)  # fmt: skip
WARNED_ATTRIBUTES = {
    "flip": "it may let a token see what comes after it",
    "fliplr": "it may let a token see what comes after it",
    "roll": "it may let a token see what comes after it, or another row",
    "register_forward_hook": "it changes what a module does away from its own lines",
    "register_forward_pre_hook": "it changes what a module does away from its own lines",
    "register_full_backward_hook": "it changes what a module does away from its own lines",
    "data_ptr": "it reaches memory behind a tensor",
    "set_": "it swaps the memory behind a tensor",
    "manual_seed": "the seed is the run's; pairs of runs share it",
    "seed": "the seed is the run's; pairs of runs share it",
    "training": "the model may behave otherwise when it is scored",
    "encode": "it makes bytes of text; the data are tokens already",
    "decode": "it makes text of bytes, which can spell a name that nobody reads",
    "numpy": "the array shares the tensor's memory, outside of autograd",
}
MODULE_STATE = frozenset(
    "_parameters _buffers _modules _forward_hooks _forward_pre_hooks _backward_hooks _state_dict_hooks "
    "_load_state_dict_pre_hooks _non_persistent_buffers_set _load_from_state_dict _save_to_state_dict _version".split()
)
REFUSED_DEFINITIONS = frozenset(
    "load_state_dict state_dict get_extra_state set_extra_state _load_from_state_dict _save_to_state_dict "
    "_register_load_state_dict_pre_hook named_parameters parameters named_buffers buffers".split()
)
DUNDERS = frozenset(
    f"__{name}__"
    for name in "init call len getitem setitem iter next contains post_init repr str enter exit eq ne lt le gt ge hash "
    "add radd iadd sub rsub isub mul rmul imul truediv rtruediv itruediv floordiv mod pow rpow matmul rmatmul neg pos "
    "abs invert and or xor int float bool index name doc version all slots reversed".split()
)
SILENT_EXITS = frozenset({"SystemExit", "KeyboardInterrupt", "GeneratorExit", "BaseException"})
# As an attribute of a module they lead out of it (``contextlib.os``, ``nn.functional.importlib``).
FOREIGN_MODULES = frozenset(
    "ast asyncio atexit builtins codecs concurrent contextlib contextvars copyreg ctypes datetime fx_traceback gc glob "
    "hooks importlib inspect io linecache logging multiprocessing os pathlib pickle platform posix pwd queue shutil "
    "socket subprocess sys tempfile textwrap threading time tokenize traceback types uuid warnings weakref".split()
)
# Public, for all that their names begin with _: those of named tuples.
PUBLIC_PRIVATE = frozenset({"_replace", "_asdict", "_fields", "_make", "_field_defaults"})
# torch.compile's options that only make code faster; others name programs, folders and passes of their own.
COMPILE_OPTIONS = re.compile(
    r"(?:max_autotune\w*|coordinate_descent_\w+|epilogue_fusion|prologue_fusion|benchmark_fusion|aggressive_fusion|"
    r"shape_padding|permute_fusion|combo_kernels\w*|layout_optimization|keep_output_stride|freezing|fallback_random|"
    r"loop_ordering_after_fusion|reorder_for_\w+|split_reductions|allow_buffer_reuse|pattern_matcher|dynamic_scale_rblock|"
    r"emulate_precision_casts|conv_1x1_as_mm|triton\.(?:cudagraph\w*|persistent_reductions|multi_kernel|unique_kernel_names|"
    r"dense_indexing|max_tiles|prefer_nd_tiling|enable_persistent_tma_matmul))"
)
# Modules of settings, and which of them an edit may set, for everything that is compiled.
COMPILE_CONFIGS = {
    "torch._inductor.config": COMPILE_OPTIONS,
    "torch._dynamo.config": re.compile(
        r"(?:accumulated_)?(?:cache_size|recompile)_limit|compiled_autograd|optimize_ddp|capture_(?:scalar|dynamic)_\w+|"
        r"specialize_(?:int|float)|assume_static_by_default|automatic_dynamic_shapes|allow_unspec_int_on_nn_module|"
        r"inline_inbuilt_nn_modules|force_\w+_static_shapes|cache_size_limit"
    ),
}
# Operations that are torch's, not the recipe's: nothing is registered for them.
TORCH_NAMESPACES = frozenset(
    "aten prim prims quantized c10d c10d_functional inductor profiler sparse mkldnn rngprims symm_mem fsdp streams mkl "
    "mkldnn_prepacked static_runtime onnx debugprims debug_mode_ops triton".split()
)
CALCULATING_NAMESPACES = frozenset({"aten", "prims"})
# What the harness gives a recipe (gpu_runner/harness/run.py).
RUN = frozenset(
    "knobs seed device dtype attention has_fp8 team vocab_size separator refuse batches compile begin steps report "
    "save".split()
)
# Of its batches (gpu_runner/harness/batches.py), beside next().
BATCHES = frozenset("batch_size seq_len vocab device __iter__ __next__".split())
READING_DUNDERS = frozenset("__class__ __contains__ __getitem__ __iter__ __len__ __next__".split())
MUTATORS = frozenset("update pop popitem setdefault clear __setitem__ __delitem__ __ior__ __init__".split())

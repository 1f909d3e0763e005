"""What edited code may name: the tables behind the gate "code". Data, no logic.

An allow-list for modules, for the names of modules that are not torch, and for builtins; below ``torch`` and
``triton``, whose names nobody can list, what reaches files, processes, other code or the clock is refused by name.
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

# Dotted names, each with all below it. The value says what they would reach.
REFUSED = {
    "torch.load": "reads files, and unpickling runs code",
    "torch.save": "writes files; the harness saves the model",
    "torch.from_file": "reads files",
    "torch.hub": "loads code from the network",
    "torch.package": "loads code from files",
    "torch.serialization": "reads and writes files",
    "torch.storage": "reaches memory and files behind tensors",
    "torch.UntypedStorage": "reaches memory and files behind tensors",
    "torch.TypedStorage": "reaches memory and files behind tensors",
    "torch.multiprocessing": "starts processes",
    "torch.distributed": "opens sockets; use run.team",
    "torch.profiler": "writes files and reads the clock",
    "torch.autograd.profiler": "reads the clock",
    "torch.autograd.profiler_util": "reads the clock",
    "torch.onnx": "writes files",
    "torch.export": "reads and writes files",
    "torch.fx": "makes code while it runs",
    "torch.classes": "loads libraries",
    "torch.testing": "is not for training",
    "torch.monitor": "writes outside of the run's report",
    "torch.ops.load_library": "loads machine code",
    "torch.ops.loaded_libraries": "loads machine code",
    "torch.ops.import_module": "loads code",
    "torch.jit.load": "reads files",
    "torch.jit.save": "writes files",
    "torch.jit.CompilationUnit": "makes code from text",
    "torch.cuda.CUDAPluggableAllocator": "loads machine code",
    "torch.cuda.memory": "reaches the allocator",
    "torch.cuda.jiterator": "makes machine code from text",
    "torch.cuda.ipc_collect": "reaches other processes",
    "torch.cuda.list_gpu_processes": "looks at other processes",
    "torch.cuda.Event": "reads the clock",
    "torch.Event": "reads the clock",
    "torch.cuda.gds": "reads and writes files",
    "torch.cuda.tunable": "reads and writes files",
    "torch.cuda.profiler": "starts a profiler, which writes files",
    "torch.cuda.nvtx": "speaks to a profiler",
    "torch.cuda.nccl": "goes around run.team",
    "torch.cuda.comm": "goes around run.team",
    "torch.cuda.green_contexts": "takes the device apart",
    "torch.xpu.memory": "reaches the allocator",
    "torch.mtia": "is not for training here",
    "torch.compiler.load_cache_artifacts": "loads machine code",
    "torch.compiler.save_cache_artifacts": "packs machine code",
    "torch.compiler.config": "changes how everything in the process is compiled",
    "torch.ao": "makes code while it runs, and reads files",
    "torch.quantization": "makes code while it runs, and reads files",
    "torch.nn.quantized": "makes code while it runs",
    "torch.nn.intrinsic": "makes code while it runs",
    "torch.nn.cpp": "wraps machine code",
    "torch.nativert": "loads machine code",
    "torch.numa": "changes the process",
    "torch.contrib": "writes files",
    "torch.futures": "runs code at a time that nobody reads",
    "torch.backends.xeon": "starts processes",
    "torch.autograd.profiler_legacy": "reads the clock",
    "torch.optim.optimizer.register_optimizer_step_pre_hook": "changes what every optimizer does",
    "torch.optim.optimizer.register_optimizer_step_post_hook": "changes what every optimizer does",
    "torch.mps.compile_shader": "makes machine code from text",
    "torch.mps.profiler": "writes files",
    "torch.mps.event": "reads the clock",
    "torch.library.Library": "can replace torch's own operations",
    "torch.library.impl": "can replace torch's own operations",
    "torch.library.define": "can replace torch's own operations",
    "torch.library.register_kernel": "can replace torch's own operations",
    "torch.library.register_torch_dispatch": "can replace torch's own operations",
    "torch.utils": "holds tools that read and write files and start processes",
    "torch.utils.data": "starts processes and reads files; use run.batches",
    "torch.utils.cpp_extension": "compiles and loads machine code",
    "torch.utils.tensorboard": "writes files",
    "torch.utils.dlpack": "reaches memory behind tensors",
    "torch.utils.model_zoo": "loads files from the network",
    "torch.utils.hooks": "changes what other code does",
    "torch.utils.bundled_inputs": "makes code from text",
    "torch.utils.mobile_optimizer": "is not for training",
    "torch.utils.collect_env": "starts processes",
    "torch.utils.benchmark": "reads the clock and makes code from text",
    "torch.overrides": "changes what torch's operations do",
    "torch.set_printoptions": "is not for training",
    "torch.set_default_tensor_type": "changes what other code does",
    "torch.set_default_device": "changes what other code does",
    "torch.nn.modules.module.register_module_forward_hook": "changes what every model does, the scorer's too",
    "torch.nn.modules.module.register_module_forward_pre_hook": "changes what every model does, the scorer's too",
    "torch.nn.modules.module": "changes what every model does, the scorer's too",
    "triton.language.inline_asm_elementwise": "is machine code that nobody can review",
    "triton.language.extern_elementwise": "loads machine code",
    "triton.language.core": "goes around Triton's public names",
    "triton.compile": "makes machine code from text",
    "triton.compiler": "makes machine code from text",
    "triton.runtime": "goes around Triton's public names",
    "triton.backends": "goes around Triton's public names",
    "triton.knobs": "runs programs that its settings name",
    "triton.tools": "starts processes and writes files",
    "triton.language.extra.cuda.globaltimer": "reads the clock",
    "triton.language.extra.cuda.libdevice.clock": "reads the clock",
    "triton.language.extra.libdevice.clock": "reads the clock",
    "triton.testing": "reads the clock and writes files",
    "triton.profiler": "writes files",
    "numpy.load": "reads files, and unpickling runs code",
    "numpy.loadtxt": "reads files",
    "numpy.genfromtxt": "reads files",
    "numpy.fromfile": "reads files",
    "numpy.fromregex": "reads files",
    "numpy.memmap": "reads and writes files",
    "numpy.save": "writes files",
    "numpy.savez": "writes files",
    "numpy.savez_compressed": "writes files",
    "numpy.savetxt": "writes files",
    "numpy.ctypeslib": "loads machine code",
    "numpy.f2py": "compiles machine code",
    "numpy.lib": "reads and writes files",
    "numpy.core": "goes around numpy's public names",
    "numpy.distutils": "compiles machine code",
    "numpy.testing": "starts processes",
    "numpy.DataSource": "reads files and the network",
    "numpy.rec": "reads files",
    "numpy.ma": "reads and writes files",
    "numpy.matlib": "goes around numpy's public names",
    "numpy.conftest": "is not for training",
    "numpy.tests": "starts processes",
    "numpy.info": "reads source files",
    "numpy.seterrcall": "runs code at a time that nobody reads",
    "numpy.setbufsize": "changes what other code does",
    "operator.attrgetter": "reaches attributes by a computed name",
    "operator.methodcaller": "reaches attributes by a computed name",
    "operator.setitem": "changes an object without an assignment that a reader sees",
    "operator.delitem": "changes an object without an assignment that a reader sees",
    "operator.ior": "changes an object without an assignment that a reader sees",
    "typing.get_type_hints": "runs text as code",
    "typing.ForwardRef": "runs text as code",
    "typing.evaluate_forward_ref": "runs text as code",
    "dataclasses.make_dataclass": "makes code while it runs",
    "contextlib.redirect_stdout": "changes what the run's log says",
    "contextlib.redirect_stderr": "changes what the run's log says",
    "contextlib.chdir": "changes what other code does",
    "functools.singledispatch": "makes code depend on annotations that are text",
    "functools.singledispatchmethod": "makes code depend on annotations that are text",
}
# Within a refused name, what may be used all the same.
EXCEPTIONS = frozenset({
    "torch.utils.checkpoint", "torch.utils.flop_counter", "torch.utils.swap_tensors",
    "triton.tools.tensor_descriptor",
    "torch.cuda.memory.max_memory_allocated", "torch.cuda.memory.reset_peak_memory_stats",
})  # fmt: skip
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
    "torch.cuda.synchronize": "it slows every step down",
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
    "monotonic time_ns process_time elapsed_time cudart is_alive dump dumps storage globaltimer obj".split()
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
# Operations that are torch's, not the recipe's: nothing is registered for them.
TORCH_NAMESPACES = frozenset(
    "aten prim prims quantized c10d c10d_functional inductor profiler sparse mkldnn rngprims".split()
)
# What the harness gives a recipe (gpu_runner/harness/run.py).
RUN = frozenset(
    "knobs seed device dtype attention has_fp8 team vocab_size separator refuse batches compile begin steps report "
    "save".split()
)
# Of its batches (gpu_runner/harness/batches.py), beside next().
BATCHES = frozenset("batch_size seq_len vocab device __iter__ __next__".split())
READING_DUNDERS = frozenset("__class__ __contains__ __getitem__ __iter__ __len__ __next__".split())
MUTATORS = frozenset("update pop popitem setdefault clear __setitem__ __delitem__ __ior__ __init__".split())

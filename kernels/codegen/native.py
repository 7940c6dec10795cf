"""From a TIR function to object code with a plain C ABI: no runtime, no packed arguments, no TVM symbol.

A kernel's PrimFunc takes its buffers (inputs, constants, outputs) in order, then scratch as a uint8 buffer,
then int32 `begin` and `end`. It comes out as

    int32_t symbol(void *buffers..., void *scratch, int32_t begin, int32_t end)

which returns 0. TVM's own pipeline ends in `MakePackedAPI`; the list of passes here is the same for a CPU
with one step exchanged: `_plain_c_abi`.
"""

import re
import tempfile
from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path
from typing import Any

import tvm
from tvm import ir, s_tir, tirx
from tvm.target import codegen as llvm
from tvm_ffi import structural_map

from edgec.errors import UnsupportedError
from edgec.kernels.codegen import elf, software
from edgec.targets.descriptor import Target

# What LLVM's M-profile CPUs say of how to schedule, which is no instruction.
_TUNING = {
    "avoid-muls", "branch-align-64", "fix-cmse-cve-2021-35465", "loop-align", "m3", "m55", "m7",
    "no-branch-predictor", "slowfpvfmx", "slowfpvmlx", "use-mipipeliner", "use-misched",
}  # fmt: skip

# Attribute of a PrimFunc whose multiplications and additions may be contracted to FMA: float islands only.
# Integer kernels round every operation, so that all targets give the same bits.
CONTRACT = "edgec.contract"

_C_LIBRARY = {"memcpy", "memset", "memmove"}
# TVM defines these in the object itself (weakly) where the instructions lack them.
_HALF_PRECISION = {"__truncsfhf2", "__extendhfsf2"}
_MATH_LIBRARY = """
    acos acosh asin asinh atan atan2 atanh ceil cos cosh erf exp exp10 exp2 fabs floor fmod hypot ldexp log
    log10 log1p log2 nearbyint nextafter pow rint round sin sinh sqrt tan tanh trunc
"""


def llvm_target(target: Target) -> tvm.target.Target:
    """Return the TVM target whose instructions are the architecture's baseline and `target.features`.

    LLVM takes a CPU name as leave to use all that CPU has. The name here chooses instruction scheduling
    only: whatever it implies beyond the baseline and `target.features` is switched off again.
    """
    features = tuple(sorted(target.features))
    return _llvm_target(target.triple, target.cpu, target.architecture.baseline_cpu, features)


@cache
def _llvm_target(triple: str, cpu: str, baseline: str, features: tuple[str, ...]) -> tvm.target.Target:
    wanted = [f"+{feature}" for feature in features]
    allowed = _available(triple, baseline, wanted) | _TUNING
    unwanted = [f"-{feature}" for feature in sorted(_available(triple, cpu, wanted) - allowed)]
    attributes = wanted + unwanted
    if beyond := _available(triple, cpu, attributes) - allowed:
        raise AssertionError(f"LLVM would still use {sorted(beyond)} on {cpu}")
    return tvm.target.Target(_described(triple, cpu, attributes))


def _available(triple: str, cpu: str, attributes: list[str]) -> set[str]:
    described = tvm.target.Target(_described(triple, cpu, attributes))
    return {str(name) for name in llvm.llvm_get_cpu_features(described)}


def _described(triple: str, cpu: str, attributes: list[str]) -> dict[str, Any]:
    described: dict[str, Any] = {"kind": "llvm", "mtriple": triple, "mcpu": cpu, "mattr": attributes}
    if triple.startswith("thumb"):
        described["vector-width"] = 128  # what TVM takes too, with a warning each time
    if triple.endswith("eabihf"):
        described["mfloat-abi"] = "hard"  # LLVM doesn't take it from the triple
    return described


def compile_object(
    function: tirx.PrimFunc, symbol: str, target: Target, callees: Collection[str] = ()
) -> bytes:
    """Return the relocatable, position independent ELF object that defines `symbol`; always the same bytes.

    Raises AssertionError when the object asks for more than `callees` and the C library's memory and math
    functions: a kernel that allocates or runs parallel loops by TVM's runtime is a bug of that kernel. Where
    there is no such library, raises UnsupportedError for all but memcpy and memset: what a float layer needs
    of it, or would do by software.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.o"
        _build(function, symbol, target).write_to_file(str(path))
        code = elf.strip(path.read_bytes(), symbol)
    mathematics = {f"{name}{suffix}" for name in _MATH_LIBRARY.split() for suffix in ("", "f")}
    allowed = (
        _C_LIBRARY | _HALF_PRECISION | mathematics
        if target.platform.has_c_library
        else elf.FREESTANDING | software.functions(target)
    )
    if foreign := elf.global_symbols(code) - {symbol, *callees} - allowed:
        if target.platform.has_c_library:
            raise AssertionError(f"{symbol} needs {sorted(foreign)}, no functions of the C library's")
        needed = " and ".join(dict.fromkeys(map(_in_words, sorted(foreign))))
        raise UnsupportedError(
            f"it needs {needed}, which firmware for {target.device} doesn't have: use operators that run in "
            "int8 (docs/operators.md)"
        )
    return code


def _in_words(symbol: str) -> str:
    """Return what a function of the C library, or of a compiler's own, is for."""
    words = (words for words, pattern in _SUPPORT.items() if re.match(pattern, symbol))
    return next(words, f"the C library's {symbol}")


_SUPPORT = {
    "division of 64-bit integers": r"__(u?(div|mod)di[34]|aeabi_u?ldivmod)$",
    "conversion of 64-bit integers": r"__(float(un)?di[sd]f|fix(uns)?[sd]fdi|aeabi_(u?l2[fd]|[fd]2u?lz))$",
    "float64": r"__(\w+df\w*|aeabi_\w*d\w*)$",
    "float32 by software": r"__(\w+sf\w*|aeabi_\w*f\w*)$",
}
"""What functions that code generators call by themselves are for: libgcc's names, and those of Arm's ABI."""


def assembly(function: tirx.PrimFunc, symbol: str, target: Target) -> str:
    """Return the assembly text of what `compile_object` makes."""
    return str(_build(function, symbol, target).inspect_source("asm"))


def lowered(function: tirx.PrimFunc, symbol: str, target: Target) -> tvm.IRModule:
    """Return what LLVM's code is made of, expression by expression."""
    llvm_description = llvm_target(target)
    function = function.with_attr({"global_symbol": symbol, "target": llvm_description})
    module = tvm.IRModule({symbol: function})
    with llvm_description, tvm.transform.PassContext(opt_level=3):
        return ir.transform.Sequential(_passes(target))(module)


def _build(function: tirx.PrimFunc, symbol: str, target: Target) -> Any:
    return tvm.get_global_func("target.build.llvm")(lowered(function, symbol, target), llvm_target(target))


def _passes(target: Target) -> list[Any]:
    return [
        # schedule blocks to loops over flat buffers
        s_tir.transform.CanonicalizeLoop(),
        s_tir.transform.LowerInitBlock(),
        s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
        s_tir.transform.ConvertBlocksToOpaque(),
        s_tir.transform.CompactBufferAllocation(),
        s_tir.transform.LowerMatchBuffer(),
        s_tir.transform.StmtSimplify(),
        s_tir.transform.AnnotateIrregularLoop(),
        s_tir.transform.LowerOpaqueBlock(),
        tirx.transform.FlattenBuffer(),
        # loops to vectors and registers
        tirx.transform.NarrowDataType(32),
        s_tir.transform.LoopPartition(),
        tirx.transform.VectorizeLoop(True),
        tirx.transform.StorageRewrite(),
        s_tir.transform.HoistIfThenElse(),
        tirx.transform.UnrollLoop(),
        s_tir.transform.RenormalizeSplitPattern(),
        tirx.transform.StmtSimplify(),
        tirx.transform.RemoveNoOp(),
        s_tir.transform.RewriteUnsafeSelect(),
        tirx.transform.CommonSubexprElim(),
        # to a C function
        _round_every_product(),
        *([_comparisons_see_nan()] if "mve.fp" in target.features else []),
        _plain_c_abi(),
        tirx.transform.LowerTVMBuiltin(),
        tirx.transform.LowerIntrin(),
        tirx.transform.ConvertSSA(),
        _operands_in_order(),
    ]


def _round_every_product() -> Any:
    """Keep float multiplications out of FMA, unless the function has the attribute `CONTRACT`.

    a * b + c  -->  fence(a * b) + c

    Both TVM's `LowerIntrin` and LLVM (TVM asks for `FPOpFusion::Fast` and has no option to undo it) contract
    what they can, which would round once where the semantics round twice. The fence is no instruction.
    """

    def rewrite(function: Any, _module: Any, _context: Any) -> Any:
        if function.attrs.get(CONTRACT, False):
            return function
        return function.with_body(structural_map(function.body, (tirx.Mul, _fenced), order="post"))

    return tirx.transform.prim_func_pass(rewrite, opt_level=0)


def _fenced(value: Any) -> Any:
    """Return a float so that LLVM can't see what it comes from; anything else as it is."""
    if not str(value.ty.dtype).startswith(("float", "bfloat")):
        return value
    return tirx.call_llvm_pure_intrin(str(value.ty.dtype), "llvm.arithmetic.fence", value)


def _comparisons_see_nan() -> Any:
    """Keep LLVM from turning comparisons of floats around, for Helium, whose `lt` and `le` hold for NaN.

    a < b  -->  a < fence(b)

    LLVM compares by `gt` and `ge` first, but turns round what begins with the same number in every lane.
    """

    def less(node: Any) -> Any:
        return type(node)(node.a, _fenced(node.b))

    def greater(node: Any) -> Any:
        return type(node)(_fenced(node.a), node.b)

    def rewrite(function: Any, _module: Any, _context: Any) -> Any:
        entries = [((tirx.LT, tirx.LE, tirx.Min), less), ((tirx.GT, tirx.GE, tirx.Max), greater)]
        return function.with_body(structural_map(function.body, entries, order="post"))

    return tirx.transform.prim_func_pass(rewrite, opt_level=0)


BINARY = (
    tirx.Add, tirx.Sub, tirx.Mul, tirx.EQ, tirx.NE, tirx.LT, tirx.LE, tirx.GT, tirx.GE, tirx.And, tirx.Or,
    tirx.BitwiseAnd, tirx.BitwiseOr, tirx.BitwiseXor, tirx.LShift, tirx.RShift,
)  # fmt: skip
"""Operators whose operands TVM computes in the arguments of one C++ call."""


def _operands_in_order() -> Any:
    """Let the last of several operands be computed first, so that objects are the same from any machine.

    a + b  -->  let right = b in a + right

    The order of a C++ call's arguments is the compiler's that TVM was built with: x86-64's begins with the
    last, arm64's with the first.
    """

    def computes(operand: Any) -> bool:
        return not isinstance(operand, tirx.Var | tirx.IntImm | tirx.FloatImm)

    def let(value: Any, body: Callable[[Any], Any]) -> Any:
        right = tirx.Var("right", value.ty)
        return tirx.Let(right, _opaque(value), body(right))

    def binary(node: Any) -> Any:
        if not (computes(node.a) and computes(node.b)):
            return node
        return let(node.b, lambda right: type(node)(node.a, right))

    def select(node: Any) -> Any:
        condition, one, other = node.condition, node.true_value, node.false_value
        if not (computes(condition) or computes(one)):
            return node
        return let(other, lambda y: let(one, lambda x: tirx.Select(condition, x, y)))

    def rewrite(function: Any, _module: Any, _context: Any) -> Any:
        entries = [
            (BINARY, binary),
            (tirx.Select, select),
            (tirx.Let, lambda node: tirx.Let(node.var, _opaque(node.value), node.body)),
            (tirx.Bind, lambda node: tirx.Bind(node.var, _opaque(node.value))),
        ]
        return function.with_body(structural_map(function.body, entries, order="post"))

    return tirx.transform.prim_func_pass(rewrite, opt_level=0)


def _opaque(value: Any) -> Any:
    """Return a value that TVM's analysis of what has a name can't look into: it fails on truth values.

    It is no instruction. Numbers alone it may see: addresses are aligned by what it knows of them.
    """
    dtype = str(value.ty.dtype)
    return tirx.call_intrin(dtype, "tirx.reinterpret", value) if "x" in dtype else value


def _plain_c_abi() -> Any:
    """Make buffer parameters pointers and return 0.

    f(A: Buffer, n: int32) { body }  -->  int32 f(a: pointer, n: int32) { A = buffer at a; body; return 0 }
    """

    def rewrite(function: Any, _module: Any, _context: Any) -> Any:
        parameters, statements = [], []
        for parameter in function.params:
            if tirx.is_buffer_var(parameter):
                pointer = tirx.Var(f"{parameter.name}_pointer", tirx.buffer_data_pointer_type(parameter))
                statements.append(tirx.DeclBuffer(parameter, data=pointer))
                parameters.append(pointer)
            else:
                parameters.append(parameter)
        body = function.body
        # Lowering an allocation asks for its device (1: the CPU), and frees where this scope ends.
        for key, value in (("device_type", 1), ("device_id", 0)):
            body = tirx.AttrStmt(ir.StringImm("default"), key, tirx.IntImm("int32", value), body)
        body = tirx.SeqStmt([*statements, body, tirx.stmt.Return(tirx.IntImm("int32", 0))])
        return tirx.PrimFunc(parameters, body, ret_type=ir.PrimType("int32"), attrs=function.attrs)

    return tirx.transform.prim_func_pass(rewrite, opt_level=0)

"""The C of a bundle, from the templates in kernels/runtime: header, driver, self-test, bench program."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jinja2

from edgec.compiler import names
from edgec.compiler.emit import platforms
from edgec.compiler.emit.expectations import RELATIVE_TOLERANCE
from edgec.compiler.emit.golden import Golden
from edgec.compiler.emit.linking import Kernels
from edgec.compiler.emit.rows import (
    Argument,
    Declaration,
    End,
    Function,
    Level,
    LevelStep,
    NearValues,
    Step,
    StepOutput,
)
from edgec.compiler.emit.runtime import runtime
from edgec.compiler.emit.sharing import shared
from edgec.compiler.native import cpu
from edgec.compiler.native.layout import Blob, pack, pieces
from edgec.compiler.program import Plan, Program
from edgec.kernels.codegen import software
from edgec.kernels.operations import Tensor

STATUSES = (
    ("OK", "no error"),
    (
        "ERROR_ARGUMENT",
        "a pointer is NULL or not the one it must be, buffers overlap, or the context isn't initialized",
    ),
    ("ERROR_CPU_FEATURE", "this CPU lacks a feature that the kernels need"),
    ("ERROR_THREADS", "the number of threads is out of range, or one can't be started"),
    ("ERROR_ARENA_TOO_SMALL", "the arena is smaller than the macro ARENA_BYTES_FOR(threads) says"),
    ("ERROR_ARENA_ALIGNMENT", "the arena isn't aligned to the macro ARENA_ALIGNMENT"),
    ("ERROR_SELFTEST", "a step computed something else than the golden run"),
    ("ERROR_OVERRUN", "a step wrote outside its buffers"),
    ("ERROR_BUSY", "the context is running already"),
)
"""Names and texts of `NAME_status`, in the order of their numbers."""

MAX_STEPS, MAX_TILES = 1 << 16, 1 << 24
"""What fits a job of the thread pool (pool.h)."""


@dataclass(frozen=True)
class Driver:
    """Everything to compile next to the kernels' objects."""

    sources: dict[str, str]
    """By file name: `NAME.h`, `NAME.c`, `NAME_selftest.c`, `NAME_bench.c`, `float_mode.h`, `pool.h` and, if
    asked, `cpu.h`."""
    assembly: dict[str, str]
    """`NAME_weights.S` and `NAME_golden.S`, which include the two blobs."""
    blobs: dict[str, bytes]
    """`NAME_weights.bin` and `NAME_golden.bin`."""
    packages: dict[str, str]
    """How build systems take the library in, and firmware around it, by path in the bundle; not compiled."""


def tensor_names(program: Program) -> dict[str, str]:
    """Return the C field name of every input and output."""
    return names.c_names(tensor.name for tensor in (*program.inputs, *program.outputs))


def weights(programs: Sequence[Program]) -> Blob[str]:
    """Lay out the constants that calls use: level after level, in the order of use; equal ones once."""
    used = {
        _constant(program, name): program.constants[name]
        for program in programs
        for call in program.calls
        for name in call.arguments
        if name in program.constants
    }
    return pack(used, programs[-1].target.alignment)


def render(
    title: str, identifier: str, programs: Sequence[Program], kernels: Kernels, plan: Plan, golden: Golden
) -> Driver:
    """Return the C sources for `programs`, one per level; their functions are called `identifier_*`.

    Raises TargetError if a CPU feature of a level can't be looked up.
    """
    *_, program = programs
    platform = platforms.of(program.target)
    for tensor in program.inputs:
        if golden.inputs[tensor.name].nbytes != tensor.bytes:
            raise ValueError(f"the golden input '{tensor.name}' hasn't the shape and dtype of the program's")
    constants = weights(programs)
    alignment = program.target.alignment
    golden_arrays = {("input", tensor.name): golden.inputs[tensor.name] for tensor in program.inputs}
    golden_arrays |= {("near", name): near.values for name, near in golden.near.items()}
    vectors = pack(golden_arrays, alignment)
    context = _context(title, identifier, programs, kernels, plan, golden, constants, vectors)
    templates = {
        f"{identifier}.h": "model.h.jinja",
        f"{identifier}.c": "model.c.jinja",
        f"{identifier}_selftest.c": "selftest.c.jinja",
        f"{identifier}_bench.c": platform.bench,
    }
    sources = {file: _render(template, context) for file, template in templates.items()}
    sources["float_mode.h"] = runtime("float_mode.h")
    if context["features"] and (header := program.target.architecture.cpu_header):  # of any level
        sources["cpu.h"] = runtime(header)
    if software.functions(program.target):
        sources[software.SOURCE] = runtime(software.SOURCE)
    sources |= platform.sources(program.target, identifier, len(constants.data) + len(vectors.data))
    blobs = {f"{identifier}_weights": constants.data, f"{identifier}_golden": vectors.data}
    return Driver(
        sources=sources,
        assembly={
            f"{symbol}.S": _render("data.S.jinja", _data(symbol, data, alignment))
            for symbol, data in blobs.items()
        },
        blobs={f"{symbol}.bin": data for symbol, data in blobs.items()},
        packages={
            path.format(name=identifier): _render(f"packages/{template}", context)
            for path, template in platform.packages(program.target).items()
        },
    )


def _context(
    title: str,
    identifier: str,
    programs: Sequence[Program],
    kernels: Kernels,
    plan: Plan,
    golden: Golden,
    constants: Blob[str],
    vectors: Blob[tuple[str, str]],
) -> Mapping[str, object]:
    *_, program = programs
    fields = tensor_names(program)
    steps: list[Step] = []
    step_outputs: list[StepOutput] = []
    model_outputs = {tensor.name: index for index, tensor in enumerate(program.outputs)}
    tiles = [call.tiles for each in programs for call in each.calls]
    if len(program.calls) > MAX_STEPS or max(tiles, default=0) >= MAX_TILES:
        raise ValueError("the program has more steps or tiles than the thread pool can count")
    for index, call in enumerate(program.calls):
        steps.append(
            Step(
                name=call.name,
                macs=call.macs,
                scratch=plan.scratch_offsets[index],
                first_output=len(step_outputs),
                checksum=golden.checksums[index],
            )
        )
        for name in call.outputs:
            near = _near(name, index, program, golden, vectors)
            step_outputs.append(_step_output(program.tensors[name], program, plan, model_outputs, near))
    functions, levels = _levels(programs, kernels, plan, fields, constants)
    return {
        "title": title,
        "name": identifier,
        "NAME": identifier.upper(),
        "target": program.target.name,
        "hosted": program.target.platform.loads_programs,
        "arch": program.target.arch,
        "arena_bytes": plan.arena_bytes,
        "thread_scratch_bytes": plan.thread_scratch_bytes,
        "weights_bytes": len(constants.data),
        "features": any(cpu.table(each.target) for each in programs),
        "alignment": program.target.alignment,
        "max_threads": program.target.max_threads,
        "context_words": _context_words(program),
        "statuses": STATUSES,
        "kernels": _kernels(programs, kernels),
        "levels": levels,
        "functions": functions,
        "steps": steps,
        "step_outputs": step_outputs,
        "arena_io": program.arena_io,
        "near": any(output.near for output in step_outputs),
        "relative_tolerance": RELATIVE_TOLERANCE,
        "inputs": _tensors(program.inputs, fields, vectors.offsets, plan),
        "outputs": _tensors(program.outputs, fields, {}, plan),
        "input_bytes": sum(tensor.bytes for tensor in program.inputs),
        "output_bytes": sum(tensor.bytes for tensor in program.outputs),
        **platforms.of(program.target).facts(program.target),
    }


def context_bytes(program: Program) -> int:
    """Return the size of `NAME_context`."""
    return 8 * _context_words(program)


def _context_words(program: Program) -> int:
    """Return how many uint64 hold the driver's state (`state` in model.c.jinja), the caller's pointers."""
    pointers = max(1, len(program.inputs)) + len(program.outputs)  # a struct without inputs has a field, too
    return platforms.of(program.target).context_words(pointers)


def _kernels(programs: Sequence[Program], kernels: Kernels) -> list[Declaration]:
    pointers = {
        symbols[call.symbol]: len(call.arguments)
        for program, symbols in zip(programs, kernels.symbols, strict=True)
        for call in program.calls
    }
    return [Declaration(symbol, count) for symbol, count in pointers.items()]


def _levels(
    programs: Sequence[Program], kernels: Kernels, plan: Plan, fields: dict[str, str], constants: Blob[str]
) -> tuple[list[Function], list[Level]]:
    """Return the functions that make a step's call, each way to call once, and what each level calls."""
    functions: dict[tuple[str, ...], Function] = {}
    levels = []
    for program, level, symbols in zip(programs, kernels.levels, kernels.symbols, strict=True):
        steps = []
        for index, call in enumerate(program.calls):
            function = Function(
                name=f"step_{index}" if len(programs) == 1 else f"step_{index}_{level}",
                layer=call.name,
                kernel=call.kernel,
                macs=call.macs,
                symbol=symbols[call.symbol],
                arguments=[_argument(name, program, plan, fields, constants) for name in call.arguments],
            )
            key = (call.name, function.symbol, *(argument.c for argument in function.arguments))
            function = functions.setdefault(key, function)
            steps.append(LevelStep(function.name, call.tiles, shared(program, call)))
        levels.append(Level(program.target.device, level, cpu.table(program.target), steps))
    return list(functions.values()), levels


def _constant(program: Program, name: str) -> str:
    """Return what a constant of one level is called among those of all."""
    return f"{program.target.device}: {name}"


def _argument(
    name: str, program: Program, plan: Plan, fields: dict[str, str], constants: Blob[str]
) -> Argument:
    if name in program.constants:
        array = program.constants[name]
        where = constants.offsets[_constant(program, name)]
        return Argument(f"constant({where})", f"{name}: {array.dtype} {_shape(array.shape)}")
    tensor = program.tensors[name]
    comment = f"{name}: {tensor.dtype} {_shape(tensor.shape)}"
    if tensor.place is not None:
        comment += f", part of {tensor.place.tensor}"
    home, offset = program.home(name), pieces(tensor)["offset"]
    if home in plan.offsets:
        return Argument(f"f->arena + {plan.offsets[home] + offset}", comment)
    if any(home == output.name for output in program.outputs):
        part = f"(uint8_t *)f->out.{fields[home]} + {offset}"
        return Argument(part if tensor.place else f"f->out.{fields[home]}", comment)
    return Argument(f"(void *)f->in.{fields[name]}", comment)


def _step_output(
    tensor: Tensor, program: Program, plan: Plan, model_outputs: dict[str, int], near: NearValues | None
) -> StepOutput:
    home, where = program.home(tensor.name), pieces(tensor)
    return StepOutput(
        name=tensor.name,
        model_output=model_outputs.get(home, -1),
        offset=where["offset"] + (0 if home in model_outputs else plan.offsets.get(home, 0)),
        bytes=where["bytes"],
        pieces=where["pieces"],
        pitch=where["pitch"],
        near=near,
    )


def _near(
    name: str, index: int, program: Program, golden: Golden, vectors: Blob[tuple[str, str]]
) -> NearValues | None:
    """Return what the self-test compares an output of call `index` with; None where it compares a checksum.

    A tensor that several calls write, one after another, is whole after the last.
    """
    if name not in golden.near or any(name in call.outputs for call in program.calls[index + 1 :]):
        return None
    near = golden.near[name]
    return NearValues(
        offset=vectors.offsets["near", name],
        stride=near.stride,
        width=near.values.itemsize,
        is_float=near.values.dtype.kind == "f",
        absolute=near.absolute,
    )


def _tensors(
    tensors: tuple[Tensor, ...],
    fields: dict[str, str],
    golden_offsets: dict[tuple[str, str], int],
    plan: Plan,
) -> list[End]:
    result = []
    sample_offset = 0
    for tensor in tensors:
        result.append(
            End(
                name=tensor.name,
                c_name=fields[tensor.name],
                c_type=names.C_TYPES[tensor.dtype],
                dtype=tensor.dtype,
                shape=_shape(tensor.shape),
                size=math.prod(tensor.shape),
                bytes=tensor.bytes,
                quantization=tensor.quantization,
                sample_offset=sample_offset,
                golden_offset=golden_offsets.get(("input", tensor.name), 0),
                arena_offset=plan.offsets.get(tensor.name, 0),
            )
        )
        sample_offset += tensor.bytes
    return result


def _shape(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(str(size) for size in shape)}]"


def _data(symbol: str, data: bytes, alignment: int) -> Mapping[str, object]:
    return {
        "alignment": alignment,
        "symbol": symbol,
        "file": f"{symbol}.bin",
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def _render(template: str, context: Mapping[str, object]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(runtime),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters |= {"comment": names.c_comment, "c_string": names.c_string, "c_float": names.c_float}
    return environment.get_template(template).render(context)

"""From what Relax makes of an island to calls of a program: the walk over the bindings of its `main`."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, SupportsInt

import numpy as np
from numpy.typing import NDArray
from tvm import relax, te
from tvm.ir import Expr, GenericConst, IRModule
from tvm.tirx import PrimFunc

from edgec.compiler.lower.islands.float_schedule import is_view, stages
from edgec.compiler.lower.islands.tir_stage import Stage
from edgec.compiler.program import Call, Function
from edgec.kernels.operations import Operator, Tensor
from edgec.targets.descriptor import Target


@dataclass(frozen=True, eq=False)
class IslandCode:
    """What an island adds to a program."""

    calls: tuple[Call, ...]
    functions: dict[str, Function]
    """By symbol."""
    tensors: dict[str, Tensor]
    """Between the calls; the island's inputs and outputs are the network's."""
    constants: dict[str, NDArray[np.generic]]


def island_code(module: IRModule, operator: Operator, target: Target) -> IslandCode:
    """Return the calls that compute `operator`, an island, from what `import_onnx` made of its model.

    Raises what TVM raises on functions that it can't schedule.
    """
    return _Lowering(operator, target).run(module)


def result_kinds(module: IRModule) -> list[tuple[tuple[int, ...], str]]:
    """Return shape and dtype of everything that a module's `main` returns."""
    main = module["main"]
    results = _results(main, {b.var: b.value for block in main.body.blocks for b in block.bindings})
    return [(tuple(int(d) for d in result.ty.shape), str(result.ty.dtype)) for result in results]


class _Lowering:
    """Walks the bindings of Relax's `main` and makes a call of each."""

    def __init__(self, operator: Operator, target: Target) -> None:
        self._operator = operator
        self._target = target
        self._stages: dict[str, list[Stage] | None] = {}
        self._names: dict[Expr, Any] = {}
        self._calls: list[Call] = []
        self._functions: dict[str, Function] = {}
        self._tensors: dict[str, Tensor] = {}
        self._constants: dict[str, NDArray[np.generic]] = {}
        self._constant_names: dict[str, str] = {}

    def run(self, module: IRModule) -> IslandCode:
        main = module["main"]
        self._names |= dict(zip(main.params, self._operator.inputs, strict=True))
        bindings = {b.var: b.value for block in main.body.blocks for b in block.bindings}
        results = _results(main, bindings)
        wanted = dict(zip(reversed(results), reversed(self._operator.outputs), strict=True))
        for variable, value in bindings.items():
            self._bind(module, variable, value, wanted)
        for result, name in zip(results, self._operator.outputs, strict=True):
            if self._name(result) != name:
                self._emit("copy", stages(_copy(result), self._target), [self._name(result), name])
        return IslandCode(tuple(self._calls), self._functions, self._tensors, self._constants)

    def _bind(self, module: IRModule, variable: Expr, value: Any, wanted: dict[Expr, str]) -> None:
        if isinstance(value, relax.TupleGetItem):
            self._names[variable] = self._name(value.tuple_value)[value.index]
        elif isinstance(value, relax.Var | GenericConst | relax.Tuple):
            self._names[variable] = self._name(value)
        elif getattr(value.op, "name", "") == "relax.call_tir":
            function, arguments = value.args[0].name_hint, [self._name(a) for a in value.args[1].fields]
            made = self._stages_of(function, module[function])
            if made is None and variable not in wanted:
                self._names[variable] = arguments[0]
                return
            results = [
                wanted.get(variable) or self._new(ty.shape, ty.dtype)
                for ty in (variable.ty.fields if isinstance(variable.ty, relax.TupleType) else [variable.ty])
            ]
            self._names[variable] = results if isinstance(variable.ty, relax.TupleType) else results[0]
            self._emit(function, made or stages(module[function], self._target), arguments + results)
        else:
            raise NotImplementedError(f"Relax can't legalize {getattr(value.op, 'name', value.op)}")

    def _stages_of(self, name: str, function: PrimFunc) -> list[Stage] | None:
        """Return the stages of a fused function; None for one that only renames its input (a reshape)."""
        if name not in self._stages:
            self._stages[name] = None if is_view(function) else stages(function, self._target)
        return self._stages[name]

    def _name(self, expression: Expr) -> Any:
        """Buffer name of a variable or constant; a list of them for a tuple."""
        if isinstance(expression, relax.Tuple):
            return [self._name(part) for part in expression.fields]
        if isinstance(expression, GenericConst):
            return self._constant(expression.value.numpy())
        return self._names[expression]

    def _constant(self, value: NDArray[np.generic]) -> str:
        digest = hashlib.sha256(repr((value.shape, value.dtype)).encode() + value.tobytes()).hexdigest()
        if digest not in self._constant_names:
            name = f"{self._operator.name}.constant{len(self._constants)}"
            self._constant_names[digest] = name
            self._constants[name] = value
        return self._constant_names[digest]

    def _new(self, shape: Iterable[SupportsInt], dtype: str) -> str:
        name = f"{self._operator.name}.{len(self._tensors)}"
        self._tensors[name] = Tensor(name, tuple(int(d) for d in shape), str(dtype))
        return name

    def _emit(self, function: str, made: list[Stage], arguments: list[str]) -> None:
        """Call the stages of one fused function: its parameters are `arguments`, the rest new tensors."""
        names = dict(zip(made[0].parameters, arguments, strict=True))
        for number, stage in enumerate(made):
            for buffer in stage.writes:
                if buffer not in names:
                    names[buffer] = self._new(buffer.shape, buffer.dtype)
            text = stage.function.script()
            symbol = f"edgec_relax_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
            buffers = [names[buffer] for buffer in (*stage.reads, *stage.writes)]
            self._functions[symbol] = Function(symbol, text, partial(_itself, stage.function))
            self._calls.append(
                Call(
                    name=f"{self._operator.name}.{function}" + (f".{number}" if len(made) > 1 else ""),
                    kernel="island",
                    symbol=symbol,
                    arguments=tuple(buffers),
                    outputs=tuple(names[buffer] for buffer in stage.writes),
                    tiles=stage.tiles,
                    scratch_bytes=0,
                    macs=stage.macs,
                    checked=False,
                )
            )


def _itself(function: PrimFunc) -> PrimFunc:
    return function


def _results(main: Any, bindings: dict[Expr, Expr]) -> list[Expr]:
    """Return what `main` returns: one variable per output, looking through tuples."""
    result = main.body.body
    while isinstance(bindings.get(result), relax.Var):
        result = bindings[result]
    result = bindings[result] if isinstance(bindings.get(result), relax.Tuple) else result
    return list(result.fields) if isinstance(result, relax.Tuple) else [result]


def _copy(variable: Expr) -> PrimFunc:
    source = te.placeholder([int(d) for d in variable.ty.shape], str(variable.ty.dtype), "source")
    return te.create_prim_func([source, te.compute(source.shape, lambda *i: source(*i), "copy")])

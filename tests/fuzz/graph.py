"""A random ONNX graph under construction: values to read, nodes that read them, and dice."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_MOST_ELEMENTS = 3000
"""Of any value: a graph is computed thousands of times an hour."""
_MOST_INPUTS = 4


@dataclass(frozen=True)
class Value:
    """A tensor of the graph that isn't constant."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    """numpy's name of it."""

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))


class ImpossibleError(Exception):
    """The operator doesn't fit what the graph holds; another one is drawn."""


@dataclass
class Graph:
    """Collects inputs, constants and nodes; `node` refuses what ONNX's shape inference does."""

    dice: np.random.Generator
    opset: int
    inputs: list[Value] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)
    """Inputs and results."""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    # --- dice -----------------------------------------------------------------------------------------------

    def chance(self, probability: float) -> bool:
        return bool(self.dice.random() < probability)

    def integer(self, low: int, high: int) -> int:
        """From `low` to `high`, both included."""
        return int(self.dice.integers(low, high + 1))

    def one(self, choices: Sequence[Any]) -> Any:
        return choices[self.integer(0, len(choices) - 1)]

    def some(self, choices: Sequence[Any], least: int = 0) -> list[Any]:
        """A part of the choices, in any order."""
        count = self.integer(least, len(choices))
        return [choices[i] for i in self.dice.permutation(len(choices))[:count]]

    def extent(self, most: int = 7) -> int:
        """1 often, as much goes wrong there."""
        return 1 if self.chance(0.25) else self.integer(1, most)

    def real(self, low: float, high: float) -> float:
        """A float32, so that an attribute doesn't change on its way."""
        return float(np.float32(self.dice.uniform(low, high)))

    def axis(self, rank: int) -> int:
        """Of a tensor of that rank, perhaps counted from behind."""
        return self.integer(-rank, rank - 1)

    def axes(self, rank: int, least: int = 0) -> list[int]:
        """Different ones, some counted from behind."""
        return [axis - rank if self.chance(0.4) else axis for axis in self.some(range(rank), least)]

    # --- values ---------------------------------------------------------------------------------------------

    def shape(self, rank: int | None = None) -> tuple[int, ...]:
        """A small shape of a given or a usual rank."""
        if rank is None:
            rank = int(self.dice.choice([0, 1, 2, 3, 4, 5, 6], p=[0.03, 0.1, 0.2, 0.2, 0.37, 0.06, 0.04]))
        extents = [self.extent(4 if rank > 4 else 7) for _ in range(rank)]
        if rank > 2 and self.chance(0.6):
            extents[0] = 1
        return tuple(extents)

    def input(self, shape: tuple[int, ...], dtype: str = "float32") -> Value:
        if len(self.inputs) == _MOST_INPUTS:
            raise ImpossibleError("inputs enough")
        value = Value(f"x{len(self.inputs)}", shape, dtype)
        self.inputs.append(value)
        self.values.append(value)
        return value

    def pick(
        self,
        accepts: Callable[[Value], bool] = lambda value: True,
        dtype: str = "float32",
        rank: int | tuple[int, int] | None = None,
    ) -> Value:
        """A value of that type and rank (or range of ranks) that `accepts` says yes to; else a new input."""
        low, high = (rank, rank) if isinstance(rank, int) else rank or (0, 6)
        found = [v for v in self.values if v.dtype == dtype and low <= v.rank <= high and accepts(v)]
        if found:
            return found[-1] if self.chance(0.6) else self.one(found)
        for _ in range(20):
            ranks = range(low, high + 1)
            shape = self.shape(self.one(ranks) if rank is not None else None)
            if low <= len(shape) <= high and accepts(Value("", shape, dtype)):
                return self.input(shape, dtype)
        raise ImpossibleError("no such value")

    def constant(self, array: Any, dtype: str | None = None) -> str:
        """A new initializer, or an equal one that is there already; returns its name."""
        array = np.asarray(array, dtype)
        for name, tensor in self.constants.items():
            known = numpy_helper.to_array(tensor)
            if known.dtype == array.dtype and known.shape == array.shape and np.array_equal(known, array):
                return name
        name = f"c{len(self.constants)}"
        self.constants[name] = numpy_helper.from_array(array, name)
        return name

    def weights(self, *shape: int) -> str:
        """Normally distributed constants, or, now and then, those of another node."""
        same = [name for name, tensor in self.constants.items() if tuple(tensor.dims) == shape]
        floats = [name for name in same if self.constants[name].data_type == TensorProto.FLOAT]
        if floats and self.chance(0.3):
            return str(self.one(floats))
        drawn = self.dice.standard_normal(shape) / np.sqrt(max(1, np.prod(shape[1:])))
        return self.constant(drawn.astype(np.float32))

    def broadcast(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A shape that broadcasts with `shape`."""
        made = [1 if self.chance(0.3) else extent for extent in shape]
        made = [self.extent() if extent == 1 and self.chance(0.2) else extent for extent in made]
        return tuple(made[self.integer(0, len(made)) if self.chance(0.4) else 0 :])

    def partner(self, value: Value, constants: float = 0.5, two_way: bool = True) -> str:
        """The name of a second operand: a constant, the same again, another value, or a new input.

        With `two_way` False it may not make the result larger than `value`.
        """

        def fits(shape: tuple[int, ...]) -> bool:
            try:
                result = np.broadcast_shapes(value.shape, shape)
            except ValueError:
                return False
            return result == value.shape or (two_way and int(np.prod(result)) <= _MOST_ELEMENTS)

        shape = self.broadcast(value.shape)
        if not fits(shape):
            shape = value.shape
        if self.chance(constants):
            shape = self.one([(), (1,), shape, shape, value.shape])
            return self.constant(self.numbers(shape, value.dtype))
        found = [v for v in self.values if v.dtype == value.dtype and fits(v.shape)]
        if len(self.inputs) < _MOST_INPUTS and (len(found) < 2 or self.chance(0.2)):
            return self.input(shape, value.dtype).name
        return str(self.one(found).name)

    def numbers(self, shape: tuple[int, ...], dtype: str) -> Any:
        """Samples of a type: normally distributed, small integers, or coins."""
        if dtype == "bool":
            return np.asarray(self.dice.integers(0, 2, shape) > 0)
        if dtype.startswith("float"):
            return np.asarray(self.dice.standard_normal(shape), dtype)
        return np.asarray(self.dice.integers(0 if dtype.startswith("u") else -6, 7, shape), dtype)

    # --- nodes ----------------------------------------------------------------------------------------------

    def node(self, operator: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> list[Value]:
        """Add a node; attributes that are None are left away. Raises ImpossibleError."""
        names = [f"v{len(self.values) + i}" for i in range(outputs)]
        node = helper.make_node(operator, list(inputs), names, name=f"{operator.lower()}_{len(self.nodes)}")
        for key, value in attributes.items():
            if value is not None:
                node.attribute.append(helper.make_attribute(key, value))
        made = self._inferred(node)
        self.nodes.append(node)
        self.values += made
        return made

    def _inferred(self, node: onnx.NodeProto) -> list[Value]:
        known = {value.name: value for value in self.values}
        types = {}
        for name in filter(None, node.input):
            if name in self.constants:
                tensor = self.constants[name]
                types[name] = helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
            else:
                kind = helper.np_dtype_to_tensor_dtype(np.dtype(known[name].dtype))
                types[name] = helper.make_tensor_type_proto(kind, list(known[name].shape))
        data = {name: self.constants[name] for name in node.input if name in self.constants}
        opsets = [helper.make_opsetid("", self.opset)]
        try:
            schema = onnx.defs.get_schema(node.op_type, self.opset, "")
            found = onnx.shape_inference.infer_node_outputs(
                schema, node, types, data, opset_imports=opsets, ir_version=10
            )
        except (onnx.defs.SchemaError, onnx.shape_inference.InferenceError, RuntimeError) as error:
            raise ImpossibleError(str(error)) from error
        made = []
        for name in node.output:
            kind = found[name].tensor_type if name in found else None
            if kind is None or not kind.HasField("shape"):
                raise ImpossibleError("no shape")
            if any(not dimension.HasField("dim_value") for dimension in kind.shape.dim):
                raise ImpossibleError("no static shape")
            shape = tuple(dimension.dim_value for dimension in kind.shape.dim)
            dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type).name
            value = Value(name, shape, dtype)
            if 0 in shape or value.size > _MOST_ELEMENTS:
                raise ImpossibleError("empty or large")
            made.append(value)
        return made

    def checkpoint(self) -> tuple[int, int, int, int]:
        """What `restore` takes everything back to that is added from now on."""
        return len(self.inputs), len(self.values), len(self.nodes), len(self.constants)

    def restore(self, checkpoint: tuple[int, int, int, int]) -> None:
        inputs, values, nodes, constants = checkpoint
        del self.inputs[inputs:], self.values[values:], self.nodes[nodes:]
        for name in list(self.constants)[constants:]:
            del self.constants[name]

    def model(self) -> onnx.ModelProto:
        """The graph as a model: everything that nobody reads is an output, and a few other values."""
        read = {name for node in self.nodes for name in node.input}
        outputs = [value for value in self.values if value.name not in read]
        results = [value for value in self.values if value.name in read and value not in self.inputs]
        if results and self.chance(0.2):
            outputs.append(self.one(results))
        if self.inputs and self.chance(0.04):
            given = self.one(self.inputs)
            outputs += [given] if given not in outputs else []
        order = self.dice.permutation(len(outputs)) if self.chance(0.3) else range(len(outputs))
        graph = helper.make_graph(
            self.nodes,
            "fuzz",
            [_info(value) for value in self.inputs],
            [_info(outputs[index]) for index in order],
            list(self.constants.values()),
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=10)
        made.producer_name = "tests.fuzz"
        return made


def _info(value: Value) -> onnx.ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(value.dtype))
    return helper.make_tensor_value_info(value.name, kind, list(value.shape))

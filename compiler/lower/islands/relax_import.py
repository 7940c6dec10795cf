"""ONNX to TIR functions by Relax: import, NHWC, legalize, fuse. What islands are made of.

TVM's importer is used as it is but for the operators in `converters`.
"""

import contextlib
import io
import traceback
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import tvm
from numpy.typing import NDArray
from onnx.helper import get_attribute_value, tensor_dtype_to_np_dtype
from tvm import relax
from tvm.ir import Expr, IRModule
from tvm.relax.expr_functor import PyExprMutator, mutator
from tvm.relax.frontend.onnx.onnx_frontend import ONNXGraphImporter, _get_convert_map

from edgec import processes
from edgec.compiler.lower.islands.converters import CONVERTERS
from edgec.compiler.lower.islands.converters.given import Given
from edgec.compiler.lower.islands.inline_functions import inline_functions
from edgec.compiler.lower.islands.refusals import NoConverterError

# Operators that follow the layout of a convolution. All others are legalized first and so stay in the
# layout that the model gave them: TVM's layout inference fails on some of them.
_LAYOUT_FOLLOWERS = [
    f"relax.{name}"
    for name in [
        *("nn.conv2d", "nn.relu", "nn.leakyrelu", "nn.prelu", "nn.silu", "nn.gelu", "sigmoid", "tanh", "exp"),
        *("erf", "sqrt", "negative", "abs", "add", "subtract", "multiply", "divide", "maximum", "minimum"),
        *("nn.max_pool2d", "nn.avg_pool2d", "nn.adaptive_avg_pool2d", "mean", "image.resize2d"),
        *("concat", "permute_dims"),
    ]
]


def import_onnx(model: onnx.ModelProto) -> IRModule:
    """Return the IRModule of fused TIR functions and a `main` that calls them in order.

    Shapes must be static, constants folded. Raises whatever TVM raises on a node it can't do.
    """
    with _quiet():
        try:
            return _convert(inline_functions(model))
        except Exception as error:
            # What the frames hold of TVM's builder warns when it dies: let it do so now, unheard.
            traceback.clear_frames(error.__traceback__)
            raise


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence TVM: its importer prints, its C++ writes warnings to the process's standard error."""
    with processes.unheard(), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _convert(model: onnx.ModelProto) -> IRModule:
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    importer = _Importer({}, "float32", keep_params_in_input=False, sanitize=True)
    module = relax.transform.DecomposeOpsForInference()(importer.from_onnx(model.graph, opset))
    passes = [
        relax.transform.LegalizeOps(),
        relax.transform.AnnotateTIROpPattern(),
        relax.transform.DeadCodeElimination(),
        relax.transform.FuseOps(),
        relax.transform.FuseTIR(),
    ]
    fused: IRModule = tvm.ir.transform.Sequential(passes)(_channels_last(_fold_constants(module)))
    return fused


def _channels_last(module: IRModule) -> IRModule:
    """Convolutions to NHWC, so that channels are contiguous and fill vectors; as imported if TVM can't."""
    convert = tvm.ir.transform.Sequential(
        [
            relax.transform.LegalizeOps(skip_ops=_LAYOUT_FOLLOWERS),
            relax.transform.ConvertLayout({"relax.nn.conv2d": ["NHWC", "HWIO"]}),
            relax.transform.Normalize(),
        ]
    )
    try:
        return _fold_constants(convert(module))
    except tvm.error.InternalError:
        return module


def converts(operator: str) -> bool:
    """Whether an operator of ONNX has a converter; what it converts, trials show."""
    return operator in CONVERTERS or operator in _get_convert_map()


class _Importer(ONNXGraphImporter):  # type: ignore[misc]  # TVM has no type stubs
    def _check_for_unsupported_ops(self, graph: onnx.GraphProto) -> None:
        if not all(converts(node.op_type) for node in graph.node):
            raise NoConverterError

    def _construct_nodes(self, graph: onnx.GraphProto) -> None:
        values = (*graph.input, *graph.value_info, *graph.output)
        self._declared = {value.name: value.type.tensor_type for value in values}
        self._waiting = iter(graph.node)  # the importer tells a converter no more than the operator's name
        super()._construct_nodes(graph)

    def _convert_operator(self, op_name: str, inputs: Any, attrs: Any, opset: int) -> Any:
        node, own = next(self._waiting), CONVERTERS.get(op_name)
        if own and all(isinstance(x.ty, relax.TensorType) for x in inputs if x is not None):
            given = Given(op_name, tuple(inputs), _attributes(node), self._results(node), opset, self.bb)
            made = own(given)
            if isinstance(made, list):
                return relax.Tuple([self.bb.normalize(part) for part in made])
            if made is not None:
                return self.bb.normalize(made)
        return super()._convert_operator(op_name, inputs, attrs, opset)

    def _results(self, node: onnx.NodeProto) -> tuple[tuple[tuple[int, ...], str], ...]:
        kinds = [self._declared[name] for name in node.output if name]
        if not all(d.HasField("dim_value") for kind in kinds for d in kind.shape.dim):
            raise NotImplementedError("a result of open shape")  # inside of a function's definition
        return tuple(
            (tuple(d.dim_value for d in kind.shape.dim), str(tensor_dtype_to_np_dtype(kind.elem_type)))
            for kind in kinds
        )


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    values = ((a.name, get_attribute_value(a)) for a in node.attribute)
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in values}


def _shape(call: Expr) -> list[int]:
    return [int(d) for d in call.ty.shape.values]


def _is_constant(expression: object) -> bool:
    return isinstance(expression, tvm.ir.GenericConst)


def _constant(value: NDArray[np.generic]) -> Expr:
    dense = np.ascontiguousarray(value).reshape(value.shape)  # a scalar would get a dimension
    return relax.const(dense, str(value.dtype))  # untold, it would make int64 int32


def _value(constant: Any) -> NDArray[np.generic]:
    value: NDArray[np.generic] = constant.value.numpy()
    return value


# What the importer and the layout conversion do to weights. TVM's FoldConstant compiles a function for
# each, which takes longer than all the rest.
_SHAPING = {
    "relax.permute_dims": lambda x, call: x.transpose(call.attrs.axes and [int(a) for a in call.attrs.axes]),
    "relax.reshape": lambda x, call: x.reshape(_shape(call)),
    "relax.expand_dims": lambda x, call: x.reshape(_shape(call)),
    "relax.squeeze": lambda x, call: x.reshape(_shape(call)),
}
_FOLDABLE = {
    "relax.add": np.add,
    "relax.subtract": np.subtract,
    "relax.multiply": np.multiply,
    "relax.divide": np.divide,
    "relax.sqrt": np.sqrt,
    "relax.negative": np.negative,
}
_COMMUTATIVE = {"relax.add", "relax.multiply", "relax.maximum", "relax.minimum"}
_BROADCASTING = _COMMUTATIVE | {"relax.subtract", "relax.divide", "relax.power"}


# Columns that a matrix of constants is padded to: one vector of the widest kind.
_COLUMNS = 16


@mutator
class _Folder(PyExprMutator):  # type: ignore[misc]  # TVM has no type stubs
    """Rewrite what the layout conversion can't see through.

    permute(constant)             -->  constant
    constant[0-D] + x[4-D]        -->  x + constant[1, 1, 1, 1]     (the layout follows the first operand)
    clip(x, low, high)            -->  minimum(maximum(x, low), high)
    x @ constant[K, 1001]         -->  (x @ constant[K, 1008])[..., :1001]
    """

    def visit_call_(self, call: Any) -> Any:
        call = self.visit_expr_post_order(call)
        name = getattr(call.op, "name", "")
        arguments = [self._constant(a) for a in call.args]
        if name in _SHAPING and _is_constant(arguments[0]):
            return _constant(_SHAPING[name](_value(arguments[0]), call))
        if name in _FOLDABLE and all(map(_is_constant, arguments)):
            return _constant(_FOLDABLE[name](*map(_value, arguments)))
        if name in _BROADCASTING:
            arguments = _same_rank(arguments)
            if name in _COMMUTATIVE and _is_constant(arguments[0]):
                arguments.reverse()
            return relax.Call(call.op, arguments, call.attrs, call.ty_args)
        if name == "relax.matmul" and _is_constant(arguments[1]):
            padded = self._padded(*arguments)
            return call if padded is None else padded
        if name == "relax.clip":
            data, low, high = arguments
            shape, dtype = (1,) * data.ty.ndim, str(data.ty.dtype)
            low, high = (relax.const(np.full(shape, float(x.value), dtype)) for x in (low, high))
            above = self.builder_.emit(relax.op.maximum(data, low))
            return relax.op.minimum(above, high)
        return call

    def _padded(self, data: Expr, constant: Expr) -> Any:
        weights = _value(constant)
        columns = weights.shape[-1]
        if weights.ndim != 2 or columns < 4 * _COLUMNS or columns % _COLUMNS == 0:
            return None
        wide = np.pad(weights, ((0, 0), (0, -columns % _COLUMNS)))
        product = self.builder_.emit(relax.op.matmul(data, relax.const(wide)))
        return relax.op.strided_slice(product, [data.ty.ndim - 1], [0], [columns])

    def _constant(self, argument: Any) -> Any:
        bound = self.lookup_binding(argument) if isinstance(argument, relax.Var) else None
        return bound if _is_constant(bound) else argument


def _same_rank(inputs: list[Expr]) -> list[Expr]:
    """Constants of a lower rank get leading dimensions: layout conversion can't permute them otherwise."""
    rank = max(x.ty.ndim for x in inputs)
    return [
        _constant(_value(x).reshape((1,) * (rank - x.ty.ndim) + _value(x).shape)) if _is_constant(x) else x
        for x in inputs
    ]


def _fold_constants(module: IRModule) -> IRModule:
    folder = _Folder(module)
    for variable, function in module.functions_items():
        if isinstance(function, relax.Function):
            folder.builder_.update_func(variable, folder.visit_expr(function))
    clean = [relax.transform.CanonicalizeBindings(), relax.transform.DeadCodeElimination()]
    folded: IRModule = tvm.ir.transform.Sequential(clean)(folder.builder_.get())
    return folded

"""Let the model's inputs and outputs be int8 themselves, for who has int8 or wants no float."""

from dataclasses import replace

import numpy as np

from edgec.arrays import Array
from edgec.compiler.graph import unique
from edgec.errors import UnsupportedError
from edgec.kernels import reference
from edgec.kernels.operations import Dequantize, Network, Operator, Quantization, Quantize, Rearrange, Tensor


def int8_io(network: Network, core: str = "") -> Network:
    """Return `network` without the conversions at its ends: who calls it quantizes, or has int8 anyway.

    x -> quantize -> layers -> dequantize -> y  -->  x -> layers -> y, which have scales and zero points.
    Codes that are two outputs, or an input and an output, are copied; what reads an output in float goes on
    reading it so. Raises UnsupportedError, naming them, where float inputs or outputs are used otherwise.
    `core` names one that has no other way, as it has no FPU; then there is nothing to leave away.
    """
    renamed: dict[str, str] = {}
    tensors: dict[str, Tensor] = {}
    removed: set[str] = set()
    copies: list[Operator] = []
    refused = []
    for name in network.inputs:
        if network.tensors[name].dtype != "float32":
            continue
        readers = [operator for operator in network.operators if name in operator.inputs]
        conversions = {o.operation for o in readers if isinstance(o.operation, Quantize)}
        if len(conversions) != 1 or len(readers) != sum(isinstance(o.operation, Quantize) for o in readers):
            refused.append(f"input '{name}' is read in float by {_named(readers)}")
            continue
        (conversion,) = conversions
        removed |= {operator.name for operator in readers}
        for operator in readers:
            (codes,) = operator.outputs
            renamed[codes] = name
            if codes in network.outputs:
                copies.append(_copy(operator.name, conversion.size, name, codes))
        tensors[name] = _int8(network.tensors[name], conversion)
    for name in network.outputs:
        if network.tensors[name].dtype != "float32":
            continue
        (writer,) = (operator for operator in network.operators if name in operator.outputs)
        if not isinstance(writer.operation, Dequantize):
            refused.append(f"output '{name}' is computed in float by '{writer.name}'")
            continue
        (source,) = writer.inputs
        if source in {*network.inputs, *network.outputs, *renamed}:
            copies.append(_copy(writer.name, writer.operation.size, renamed.get(source, source), name))
        else:
            renamed[source] = name
        if any(name in operator.inputs for operator in network.operators):
            renamed[name] = unique(f"{name}_float", {*network.tensors, *tensors})
            tensors[renamed[name]] = replace(network.tensors[name], name=renamed[name])
        else:
            removed.add(writer.name)
        tensors[name] = _int8(network.tensors[name], writer.operation)
    if refused:
        advice = f"{core} has no FPU, choose a core with one" if core else "leave --io int8 away"
        raise UnsupportedError(f"{'; '.join(refused)}: {advice}")
    return replace(
        network,
        operators=(*(_renamed(o, renamed) for o in network.operators if o.name not in removed), *copies),
        tensors={n: t for n, t in network.tensors.items() if n not in renamed or n in network.outputs}
        | tensors,
    )


def quantized_as(tensor: Tensor, array: Array) -> Array:
    """Return float32 values as the codes of an int8 tensor, rounded as its conversion does; others as is."""
    scale = tensor.quantization
    if scale is None or tensor.dtype != scale.dtype or array.dtype != np.float32:
        return array
    return reference.quantize(Quantize(array.size, scale.scale, scale.zero_point, scale.dtype), array)


def as_real(tensor: Tensor, array: Array) -> Array:
    """Return the numbers that an int8 tensor's codes stand for; other arrays as they are."""
    scale = tensor.quantization
    if scale is None or array.dtype != scale.dtype:
        return array
    return reference.dequantize(Dequantize(array.size, scale.scale, scale.zero_point, scale.dtype), array)


def _int8(tensor: Tensor, conversion: Quantize | Dequantize) -> Tensor:
    quantization = Quantization(conversion.scale, conversion.zero_point, conversion.dtype)
    return replace(tensor, dtype=conversion.dtype, quantization=quantization)


def _copy(name: str, size: int, source: str, result: str) -> Operator:
    return Operator(name, Rearrange((size,), (1,), 0, "int8", size), (source,), (result,))


def _renamed(operator: Operator, names: dict[str, str]) -> Operator:
    return replace(
        operator,
        inputs=tuple(names.get(name, name) for name in operator.inputs),
        outputs=tuple(names.get(name, name) for name in operator.outputs),
    )


def _named(operators: list[Operator]) -> str:
    return ", ".join(f"'{operator.name}'" for operator in operators) or "nobody"

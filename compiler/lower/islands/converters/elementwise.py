"""Operators that compute element by element, where TVM's own converters miss ONNX's corners."""

from collections.abc import Callable

from tvm import relax, te, tirx, topi
from tvm.ir import Expr
from tvm.te import Tensor

from edgec.compiler.lower.islands.converters.given import Converter, Given, Result, array, dtype_of, is_float


def _broadcast(given: Given, function: Callable[[Expr, Expr], Expr], kinds: str | None = None) -> Expr:
    """Apply a function of two elements, by ONNX's broadcasting; `kinds` is what both are cast to first."""
    shape, dtype = given.shape, given.dtype

    def compute(a: Tensor, b: Tensor) -> Expr:
        if kinds is not None:
            a, b = topi.cast(a, kinds), topi.cast(b, kinds)
        a, b = topi.broadcast_to(a, shape), topi.broadcast_to(b, shape)
        return te.compute(shape, lambda *i: function(a(*i), b(*i)).astype(dtype))

    return given.compute(compute, *given.inputs[:2])


def _chain(operation: Callable[[Expr, Expr], Expr]) -> Converter:
    def convert(given: Given) -> Expr:
        result: Expr = given.data
        for other in given.inputs[1:]:
            result = given.emit(operation(result, other))
        return result

    return convert


def _clip(given: Given) -> Expr:
    low, high = given.input(1), given.input(2)
    if given.opset < 11:
        low, high = (
            None if name not in given.attributes else array(given.attributes[name], dtype_of(given.data))
            for name in ("min", "max")
        )
    result = given.data
    if low is not None:
        result = given.emit(relax.op.maximum(result, low))
    return result if high is None else relax.op.minimum(result, high)


def _divide(given: Given) -> Result:
    """Integers are divided towards zero; what ONNX doesn't define, a division by zero, is 0 and no trap."""
    if is_float(given.dtype):
        return None
    return _broadcast(given, lambda a, b: _guarded(tirx.truncdiv, a, b))


def _guarded(divide: Callable[[Expr, Expr], Expr], a: Expr, b: Expr) -> Expr:
    one, zero = tirx.const(1, b.ty.dtype), tirx.const(0, a.ty.dtype)
    if str(b.ty.dtype).startswith("uint"):
        return tirx.Select(b == 0, zero, divide(a, tirx.Select(b == 0, one, b)))
    # The lowest integer divided by -1 would trap as well: there, 0 - a wraps as others do.
    safe = tirx.Select(tirx.any(b == 0, b == -1), one, b)
    minus = zero if divide in (tirx.truncmod, tirx.floormod) else zero - a
    return tirx.Select(b == 0, zero, tirx.Select(b == -1, minus, divide(a, safe)))


def _mod(given: Given) -> Expr:
    """Compute the remainder, which has the divisor's sign, or with fmod the dividend's."""
    fmod = bool(given.attributes.get("fmod", 0))
    if not is_float(given.dtype):
        return _broadcast(given, lambda a, b: _guarded(tirx.truncmod if fmod else tirx.floormod, a, b))
    wide = "float64" if given.dtype == "float64" else "float32"

    def floored(a: Expr, b: Expr) -> Expr:
        rest = tirx.Mod(a, b)  # of floats: what C calls fmod
        zero = tirx.const(0, wide)
        other = tirx.any(tirx.all(rest < zero, b > zero), tirx.all(rest > zero, b < zero))
        return rest if fmod else tirx.Select(other, rest + b, rest)

    return _broadcast(given, floored, wide)


def _power(given: Given) -> Result:
    base, exponent = (dtype_of(x) for x in given.inputs)
    if base == exponent and base in ("float32", "float16"):
        return None
    wide = "float32" if base in ("float32", "float16") and exponent != "float64" else "float64"
    return _broadcast(given, lambda a, b: tirx.call_intrin(wide, "tirx.pow", a, b), wide)


def _bit_shift(given: Given) -> Expr:
    """Shifts by the width or more leave nothing but, to the right, the sign."""
    left = given.attributes["direction"] == "LEFT"
    bits = int(given.dtype.lstrip("uint"))

    def shift(a: Expr, b: Expr) -> Expr:
        zero = tirx.const(0, given.dtype)
        within = tirx.shift_right(b, tirx.const(bits.bit_length() - 1, given.dtype)) == 0
        amount = tirx.bitwise_and(b, tirx.const(bits - 1, given.dtype))
        shifted = tirx.shift_left(a, amount) if left else tirx.shift_right(a, amount)
        beyond = zero
        if not left and not given.dtype.startswith("u"):
            beyond = tirx.shift_right(a, tirx.const(bits - 1, given.dtype))
        return tirx.Select(within, shifted, beyond)

    return _broadcast(given, shift)


def _is_inf(given: Given) -> Expr:
    kind, (x,) = dtype_of(given.data), given.inputs
    high, low = (array(sign * float("inf"), kind) for sign in (1, -1))
    found = [
        given.emit(relax.op.equal(x, limit))
        for name, limit in (("detect_positive", high), ("detect_negative", low))
        if given.attributes.get(name, 1)
    ]
    if not found:
        return relax.op.zeros(given.shape, "bool")
    return found[0] if len(found) == 1 else relax.op.logical_or(*found)


def _prelu(given: Given) -> Expr:
    """Slopes are broadcast from the last dimension on, whatever the rank."""
    zero = array(0, given.dtype)
    below = given.emit(relax.op.multiply(given.data, given.inputs[1]))
    return relax.op.where(given.emit(relax.op.less(given.data, zero)), below, given.data)


def _sign(given: Given) -> Result:
    """Compute the sign, which is NaN for NaN."""
    dtype = given.dtype
    if dtype.startswith("uint"):
        return None

    def sign(x: Expr) -> Expr:
        one, zero = tirx.const(1, dtype), tirx.const(0, dtype)
        return tirx.Select(x > zero, one, tirx.Select(x < zero, tirx.const(-1, dtype), x))

    return given.compute(lambda x: te.compute(given.shape, lambda *i: sign(x(*i))), given.data)


def _thresholded_relu(given: Given) -> Expr:
    """Make 0 of what isn't above the limit, of NaN too."""
    limit = array(given.attributes.get("alpha", 1.0), given.dtype)
    above = given.emit(relax.op.greater(given.data, limit))
    return relax.op.where(above, given.data, array(0, given.dtype))


def _dropout(given: Given) -> Result:
    """Do what it does at inference: nothing. A training_mode that isn't known is refused."""
    training = given.constant(2)
    if given.input(2) is not None and (training is None or training):
        raise NotImplementedError("training mode")
    mask = [relax.op.ones(given.shape, "bool")] if len(given.results) > 1 else []
    return [given.data, *mask] if mask else given.data


def _cast(given: Given) -> Expr:
    """Cast to the second input's type (CastLike); where C would leave it open, integers wrap around."""
    return relax.op.astype(given.data, given.dtype)


def _bit_cast(given: Given) -> Expr:
    source = dtype_of(given.data)
    if source == given.dtype:
        return given.data
    if "bool" in (source, given.dtype):
        raise NotImplementedError("bits of booleans")

    def same_bits(x: Tensor) -> Expr:
        return te.compute(given.shape, lambda *i: tirx.reinterpret(given.dtype, x(*i)))

    return given.compute(same_bits, given.data)


ELEMENTWISE: dict[str, Converter] = {
    "BitCast": _bit_cast,
    "BitShift": _bit_shift,
    "CastLike": _cast,
    "Clip": _clip,
    "Div": _divide,
    "Dropout": _dropout,
    "IsInf": _is_inf,
    "Max": _chain(relax.op.maximum),
    "Min": _chain(relax.op.minimum),
    "Mod": _mod,
    "PRelu": _prelu,
    "Pow": _power,
    "Sign": _sign,
    "ThresholdedRelu": _thresholded_relu,
}

"""--io int8: the same network without conversions at its ends. --io arena: the ends lie in the arena."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgec.bench.bundle import Bundle
from edgec.compiler.lower.network.int8_io import as_real, int8_io, quantized_as
from edgec.errors import UnsupportedError
from edgec.kernels import reference
from edgec.kernels.operations import (
    Dequantize,
    FloatMean,
    Lookup,
    Network,
    Operator,
    Quantization,
    Quantize,
    Tensor,
)
from tests.compiler.building import build, verified

ROOT = Path(__file__).parents[4]
EXAMPLE = ROOT / "examples" / "fmnist_dscnn.onnx"
TABLE = np.arange(127, -129, -1, dtype=np.int64).astype(np.int8)


def network(*middle: Operator, source: str = "x", result: str = "d") -> Network:
    """x -> quantize -> table -> dequantize -> d, and what `middle` adds."""
    operators = (
        Operator("quantize", Quantize(8, 0.5, 3), ("x",), ("q",)),
        Operator("table", Lookup(8, TABLE), ("q",), ("r",)),
        Operator("dequantize", Dequantize(8, 0.25, -1), ("r",), ("d",)),
        *middle,
    )
    tensors = [Tensor(name, (2, 4), "float32") for name in ("x", "d", "m")]
    tensors += [Tensor(name, (8,), "int8") for name in "qr"]
    return Network(operators, {t.name: t for t in tensors}, (source,), (result,), {})


def test_conversions_go_and_the_ends_have_their_scales() -> None:
    made = int8_io(network())
    assert [operator.name for operator in made.operators] == ["table"]
    assert (made.operators[0].inputs, made.operators[0].outputs) == (("x",), ("d",))
    assert made.tensors["x"] == Tensor("x", (2, 4), "int8", Quantization(0.5, 3))
    assert made.tensors["d"] == Tensor("d", (2, 4), "int8", Quantization(0.25, -1))
    assert made.tensors.keys() == {"x", "d", "m"}


def test_the_network_computes_the_same() -> None:
    plain = network()
    made = int8_io(plain)
    x = np.linspace(-70, 70, 8, dtype=np.float32).reshape(2, 4)
    codes = reference.evaluate(made, {"x": quantized_as(made.tensors["x"], x)})["d"]
    expected = reference.evaluate(plain, {"x": x})["d"]
    np.testing.assert_array_equal(as_real(made.tensors["d"], codes).reshape(2, 4), expected)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (
            network(Operator("mean", FloatMean(2, 4, 1), ("x",), ("m",))),
            "input 'x' is read in float by 'quantize', 'mean'",
        ),
        (
            network(Operator("mean", FloatMean(2, 4, 1), ("d",), ("m",)), result="m"),
            "output 'm' is computed in float by 'mean'",
        ),
    ],
)
def test_float_ends_that_are_used_are_told(made: Network, words: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        int8_io(made)
    assert words in str(caught.value)
    assert str(caught.value).endswith(": leave --io int8 away")
    with pytest.raises(UnsupportedError, match=r": cortex-m3 has no FPU, choose a core with one$"):
        int8_io(made, "cortex-m3")


@pytest.mark.parametrize(
    ("middle", "results"),
    [
        ((Operator("again", Dequantize(8, 0.5, 7), ("r",), ("e",)),), ("d", "e")),
        ((Operator("given", Dequantize(8, 0.5, 3), ("q",), ("e",)),), ("e", "d")),
        ((Operator("table2", Lookup(8, TABLE), ("r",), ("s",)),), ("d", "r", "s")),
        ((), ("q", "d")),
        ((Operator("mean", Quantize(8, 0.125, 0), ("d",), ("s",)),), ("d", "s")),
        (
            (
                Operator("again", Dequantize(8, 0.5, 7), ("r",), ("e",)),
                Operator("read", Quantize(8, 0.125, 0), ("d",), ("s",)),
                Operator("read again", Quantize(8, 0.125, 0), ("e",), ("t",)),
            ),
            ("d", "e", "s", "t"),
        ),
    ],
)
def test_codes_that_are_several_ends_and_floats_that_are_read_stay_what_they_are(
    middle: tuple[Operator, ...], results: tuple[str, ...]
) -> None:
    first = network(*middle)
    tensors = {name: Tensor(name, (8,), "int8") for name in "st"} | {"e": Tensor("e", (2, 4), "float32")}
    plain = replace(first, tensors=first.tensors | tensors, outputs=results)
    made = int8_io(plain)
    assert made.outputs == results
    x = np.linspace(-70, 70, 8, dtype=np.float32).reshape(2, 4)
    expected = reference.evaluate(plain, {"x": x})
    found = reference.evaluate(made, {"x": quantized_as(made.tensors["x"], x)})
    for name in results:
        np.testing.assert_array_equal(as_real(made.tensors[name], found[name]), expected[name])


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Bundle]:
    """For this machine: with float ends and with int8 ones."""
    calibration = ROOT / "examples" / "fmnist_calibration.npz"
    folders = tmp_path_factory.mktemp("float"), tmp_path_factory.mktemp("int8")
    plain, made = (
        build(EXAMPLE, folder, calibration=calibration, int8_io=with_int8)
        for folder, with_int8 in zip(folders, (False, True), strict=True)
    )
    return plain, made


def test_a_bundle_with_int8_ends_is_verified_against_the_float_model(pair: tuple[Bundle, Bundle]) -> None:
    with np.load(ROOT / "examples" / "fmnist_test.npz") as data:
        images = {"image": data["image"][:8]}
    found = [verified(bundle, data=images) for bundle in pair]
    (one,), (two,) = (run.accuracy.outputs for run in found)  # the original is fed what int8 can say
    assert two.sqnr_db == pytest.approx(one.sqnr_db, rel=1e-3)
    assert two.top1_agreement == one.top1_agreement
    assert [tensor.dtype for tensor in (*pair[1].inputs, *pair[1].outputs)] == ["int8", "int8"]
    floats, codes = (bundle.run(images)["logits"] for bundle in pair)
    (output,) = pair[1].outputs
    steps = (codes.astype(np.int32) - output.zero_point).astype(np.float32)
    np.testing.assert_array_equal(steps * np.float32(output.scale), floats)


def test_the_header_has_scales_and_zero_points(pair: tuple[Bundle, Bundle]) -> None:
    header = pair[1].file("include/fmnist_dscnn.h").read_text()
    assert "#define FMNIST_DSCNN_IMAGE_ZERO_POINT (-128)" in header
    assert "#define FMNIST_DSCNN_LOGITS_SCALE " in header
    assert "const int8_t *image;" in header


@pytest.mark.skipif(not shutil.which("llvm-objdump-19"), reason="llvm-objdump-19 tells the instructions")
def test_nothing_but_requantization_is_float_in_firmware(tmp_path: Path) -> None:
    bundle = build(EXAMPLE, tmp_path, "cortex-m7-int8", int8_io=True)
    said = subprocess.run(
        ["llvm-objdump-19", "-d", "--mcpu=cortex-m7", str(bundle.file("lib/libfmnist_dscnn.a"))],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    used = {line.split("\t")[1].strip() for line in said.splitlines() if line.count("\t") >= 1}
    used = {name.partition(".")[0] for name in used if name.startswith("v")}
    # Sums become float, are multiplied and rounded, by a conversion or an addition; nothing is divided.
    assert used <= {"vcvt", "vcvtr", "vmul", "vadd", "vmov", "vldr", "vldmia", "vpush", "vpop", "vstr"}
    assert {"vcvt", "vmul"} <= used


@pytest.mark.usefixtures("board_emulator")
@pytest.mark.parametrize("with_int8_io", [True, False])
def test_inputs_and_outputs_lie_in_the_arena(tmp_path: Path, with_int8_io: bool) -> None:
    options = {"int8_io": with_int8_io, "calibration": ROOT / "examples" / "fmnist_calibration.npz"}
    plain, made = (
        build(EXAMPLE, folder, "cortex-m4-int8", arena_io=in_arena, **options)
        for folder, in_arena in ((tmp_path / "plain", False), (tmp_path / "arena", True))
        if folder.mkdir() is None
    )
    with np.load(ROOT / "examples" / "fmnist_test.npz") as data:
        images = {"image": data["image"][:3]}
    assert verified(made, data=images).samples == 3
    np.testing.assert_array_equal(made.run(images)["logits"], plain.run(images)["logits"])
    size = 28 * 28 * (1 if with_int8_io else 4)
    assert made.memory.arena_bytes <= plain.memory.arena_bytes + size
    header = made.file("include/fmnist_dscnn.h").read_text()
    assert "#define FMNIST_DSCNN_IMAGE_OFFSET " in header
    assert (made.manifest.int8_io, made.manifest.options.arena_io) == (with_int8_io, True)


def test_only_firmware_has_them_there(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="--io arena is for firmware"):
        build(EXAMPLE, tmp_path, "rpi5-int8", arena_io=True)

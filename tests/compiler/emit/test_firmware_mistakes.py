"""What can go wrong with a build for a microcontroller, each told in one line that says what to do."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from edgec.compiler.native import toolchain
from edgec.errors import EdgecError, LimitError, ToolchainError, UnsupportedError
from tests.compiler.building import build

EXAMPLE = Path(__file__).parents[3] / "examples" / "fmnist_dscnn.onnx"


def model(operator: str, shape: list[int], result: list[int], **attributes: int) -> onnx.ModelProto:
    """A network of one operator."""
    node = helper.make_node(operator, ["x"], ["y"], name="layer", **attributes)
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", shape), ("y", result))]
    graph = helper.make_graph([node], "network", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def refused(tmp_path: Path, network: onnx.ModelProto | Path, core: str, error: type[EdgecError]) -> str:
    """The line that the build is refused with, which leaves nothing."""
    with pytest.raises(error) as caught:
        build(network, tmp_path, f"{core}-int8")
    assert not list(tmp_path.glob("*.edgec*"))
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("core", ["cortex-m4", "riscv32"])
def test_an_operator_that_nothing_can_compile_is_named(tmp_path: Path, core: str) -> None:
    said = refused(tmp_path, model("Det", [4, 4], []), core, UnsupportedError)
    assert said.startswith("model.onnx: node 'layer' (Det) can't be compiled")


def test_a_float_layer_that_needs_a_mathematics_library_is_told_with_what_it_needs(tmp_path: Path) -> None:
    said = refused(tmp_path, model("LRN", [1, 8, 4, 4], [1, 8, 4, 4], size=3), "cortex-m4", UnsupportedError)
    assert "needs the C library's powf, which firmware for cortex-m4 doesn't have: use operators" in said


@pytest.mark.parametrize("core", ["cortex-m0plus", "cortex-m3", "riscv32"])
def test_a_float_layer_on_a_core_without_fpu_is_told(tmp_path: Path, core: str) -> None:
    said = refused(tmp_path, model("LRN", [1, 8, 4, 4], [1, 8, 4, 4], size=3), core, UnsupportedError)
    assert said.endswith(f"{core} has no FPU, choose a core with one")


def test_an_image_beyond_the_boards_memories_is_told(tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    path.write_text('base = "cortex-m4"\n[emulator]\nflash = [0, 8192]\nram = [0x20000000, 8192]\n')
    with pytest.raises(LimitError) as caught:
        build(EXAMPLE, tmp_path, f"{path}-int8")
    memories = "the image doesn't fit mps2-an386, a stand-in with 8 KiB of flash and 8 KiB of RAM"
    assert memories in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_compiler_is_told_with_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toolchain.importlib.util, "find_spec", lambda name: None)
    said = refused(tmp_path, EXAMPLE, "cortex-m4", ToolchainError)
    assert said.endswith("the C compiler is missing: install it with 'pip install ziglang==0.17.1'")

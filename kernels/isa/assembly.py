"""Inner loops in assembler, inside kernels that are TIR otherwise.

Where a loop needs nearly every register that there is, LLVM spills in it and addresses what it loads piece
by piece: on Cortex-M that costs a third more instructions. Such a loop is written out here as LLVM's inline
assembler in a function of its own, which TVM links into the kernel's module and LLVM then inlines.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tvm import ir, tirx

from edgec.kernels.tir import Buffer, Expr, T


@dataclass(frozen=True)
class Assembly:
    """A loop: it adds to int32 accumulators and moves through memory by pointers."""

    name: str
    accumulators: int
    """$0, $1, ...: int32, in and out."""
    arguments: str
    """What follows them, in and out as well: `p` a pointer, `l` one in a low register, `i` an int32."""
    text: str
    """Instructions, one a line."""
    clobbers: tuple[str, ...]
    """Registers that it uses besides."""

    @property
    def llvm(self) -> str:
        """The function i32 name(ptr accumulators, arguments...), which returns 0."""
        types = ["i32"] * self.accumulators + ["i32" if kind == "i" else "ptr" for kind in self.arguments]
        count = len(types)
        given = [f"%x{i}" for i in range(count)]
        result = "{" + ", ".join(types) + "}"
        outputs = ["=r"] * self.accumulators + ["=l" if kind == "l" else "=r" for kind in self.arguments]
        clobbers = [f"~{{{name}}}" for name in (*self.clobbers, "cc", "memory")]
        constraints = ",".join([*outputs, *map(str, range(count)), *clobbers])
        parameters = [f"{types[i]} {given[i]}" for i in range(self.accumulators, count)]
        parameters = ["ptr %a"] * bool(self.accumulators) + parameters
        lines = [f"define internal i32 @{self.name}({', '.join(parameters)}) alwaysinline nounwind {{"]
        for i in range(self.accumulators):
            lines.append(f"%p{i} = getelementptr i32, ptr %a, i32 {i}")
            lines.append(f"%x{i} = load i32, ptr %p{i}")
        # Convergent: LLVM takes the call for one instruction, and would unroll the loops around it.
        text = "\\0A".join(line.strip() for line in self.text.strip().splitlines())
        arguments = ", ".join(f"{kind} {value}" for kind, value in zip(types, given, strict=True))
        lines.append(f'%r = call {result} asm sideeffect "{text}", "{constraints}"({arguments}) convergent')
        for i in range(self.accumulators):
            lines.append(f"%y{i} = extractvalue {result} %r, {i}")
            lines.append(f"store i32 %y{i}, ptr %p{i}")
        return "\n".join([*lines, "ret i32 0", "}"])

    def call(self, accumulators: Buffer | None, *arguments: Expr) -> None:
        """Write a call; `accumulators` is the buffer of them all."""
        first = [] if accumulators is None else [address(accumulators, 0)]
        T.evaluate(T.call_extern("int32", self.name, *first, *arguments))


def address(buffer: Buffer, offset: Expr) -> Expr:
    """Return the address of an element, for an argument that is a pointer."""
    return tirx.address_of(buffer[offset])


def linked(functions: Sequence[Assembly], body: Callable[[], None]) -> None:
    """Write `body`, which may call the functions."""
    text = "\n".join(function.llvm for function in functions)
    with T.attr(tirx.IntImm("int32", 0), "pragma_import_llvm", ir.StringImm(text)):
        body()

"""Deployment compiler for edge devices: a trained ONNX model in, an exact int8 C library out."""

# To type checkers it is true; typing takes a moment to import, in which Ctrl-C may come.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from edgec.api import build, load
    from edgec.bench.bundle import Bundle

__all__ = ["Bundle", "build", "load"]


def __getattr__(name: str) -> object:
    """Import the compiler when it is first asked for: `edgec targets` answers without it (PEP 562)."""
    if name == "Bundle":
        from edgec.bench.bundle import Bundle

        return Bundle
    if name in ("build", "load"):
        from edgec import api

        return getattr(api, name)
    raise AttributeError(f"module 'edgec' has no attribute '{name}'")

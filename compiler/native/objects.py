"""Compile a program's functions to objects: in parallel, and each only once per user (a cache by content)."""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib import metadata
from pathlib import Path

from edgec import cache
from edgec.compiler.program import Function, Program
from edgec.errors import UnsupportedError
from edgec.kernels.version import code_version
from edgec.targets.descriptor import Target

Progress = Callable[[str, bool], None]
"""Called as each object is ready: (symbol, whether it came from the cache)."""


def compile_objects(program: Program, on_progress: Progress | None = None) -> dict[str, bytes]:
    """Return the relocatable ELF object of every function of `program`, by symbol, in the program's order.

    The bytes don't depend on what is in the cache or on the number of threads. Threads, not processes: TVM
    lets go of Python's lock while it lowers and while LLVM works, and a process would first import TVM for
    more seconds than most models take to compile.
    """
    report = on_progress or (lambda _symbol, _cached: None)
    entries = {symbol: _entry(function, program.target) for symbol, function in program.functions.items()}
    objects = {symbol: code for symbol, path in entries.items() if (code := cache.read(path)) is not None}
    for symbol in objects:
        report(symbol, True)
    missing = [f for symbol, f in program.functions.items() if symbol not in objects]
    if missing:
        with ThreadPoolExecutor(min(os.cpu_count() or 1, len(missing))) as threads:
            futures = {threads.submit(_compile, f, program.target): f.symbol for f in missing}
            try:
                for future in as_completed(futures):
                    symbol = futures[future]
                    with _named(program, symbol):
                        objects[symbol] = future.result()
                    cache.write(entries[symbol], objects[symbol])
                    report(symbol, False)
            except BaseException:
                threads.shutdown(cancel_futures=True)
                raise
        cache.trim()
    return {symbol: objects[symbol] for symbol in program.functions}


@contextlib.contextmanager
def _named(program: Program, symbol: str) -> Iterator[None]:
    """Put the layer that a function is for in front of why it can't be compiled."""
    try:
        yield
    except UnsupportedError as error:
        layer = next((call.name for call in program.calls if call.symbol == symbol), symbol)
        raise UnsupportedError(f"layer '{layer}': {error}") from error


def is_cached(function: Function, target: Target) -> bool:
    """Whether `compile_objects` need not compile `function`."""
    return _entry(function, target).is_file()


def _entry(function: Function, target: Target) -> Path:
    return cache.folder() / "objects" / f"{_content_key(function, target)}.o"


def _compile(function: Function, target: Target) -> bytes:
    from edgec.kernels.codegen.native import compile_object

    return compile_object(function.make(), function.symbol, target, function.callees)


def _content_key(function: Function, target: Target) -> str:
    """Hash of all that decides the object's bytes."""
    parts = [
        function.key,
        function.symbol,
        [target.arch, target.triple, target.cpu, sorted(target.features)],
        [[package, metadata.version(package)] for package in ("apache-tvm", "apache-tvm-ffi")],
        code_version(),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

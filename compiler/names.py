"""Names that C accepts, made from whatever a model calls its tensors."""

import re
from collections.abc import Iterable

import numpy as np

from edgec.errors import ModelError, printable

# fmt: off
KEYWORDS = frozenset(
    {
        "alignas", "alignof", "and", "and_eq", "asm", "auto", "bitand", "bitor", "bool", "break",
        "case", "catch", "char", "char16_t", "char32_t", "class", "compl", "const", "const_cast",
        "constexpr", "continue", "decltype", "default", "delete", "do", "double", "dynamic_cast",
        "else", "enum", "explicit", "export", "extern", "false", "float", "for", "friend", "goto",
        "if", "inline", "int", "linux", "long", "mutable", "namespace", "new", "noexcept", "not",
        "not_eq", "nullptr", "operator", "or", "or_eq", "private", "protected", "public",
        "register", "reinterpret_cast", "restrict", "return", "short", "signed", "sizeof", "static",
        "static_assert", "static_cast", "struct", "switch", "template", "this", "thread_local",
        "throw", "true", "try", "typedef", "typeid", "typename", "typeof", "union", "unix",
        "unsigned", "using", "virtual", "void", "volatile", "wchar_t", "while", "xor", "xor_eq",
    }
)
# fmt: on
"""Keywords of C99 to C23 and of C++17, and what GNU dialects predefine."""

# fmt: off
TAKEN = frozenset(
    {
        "aio", "argp_err_exit", "atomic", "cnd", "fanotify", "find", "fts", "fts64", "host", "iconv",
        "inet6_opt", "inet6_option", "inet6_rth", "inotify", "mq", "mtx", "place", "pool",
        "posix_spawn_file_actions", "posix_spawnattr", "pthread_attr", "pthread_barrier",
        "pthread_barrierattr", "pthread_cond", "pthread_condattr", "pthread_mutex", "pthread_mutexattr",
        "pthread_rwlock", "pthread_rwlockattr", "pthread_spin", "run", "sem", "step", "svc", "write",
    }
)
# fmt: on
"""What a bundle can't be called: `sem_init` is POSIX's, `step_outputs` the driver's own."""

C_TYPES = {
    "bool": "uint8_t",
    "float16": "uint16_t",
    "float32": "float",
    "float64": "double",
    "int8": "int8_t",
    "int16": "int16_t",
    "int32": "int32_t",
    "int64": "int64_t",
    "uint8": "uint8_t",
    "uint16": "uint16_t",
    "uint32": "uint32_t",
    "uint64": "uint64_t",
}
"""numpy dtype name -> C type of an array's elements."""
_NAME_BYTES = 100
"""Names of files are made of it, which take 255 at most."""


def check(name: str) -> None:
    """Raise ModelError for what can't be the name of a model: of its bundle, its files and its functions."""
    if printable(name) != name or not name or set(name) & set("/\\\0"):
        raise ModelError(f"name '{name}': give another with --name: printable characters, no slashes")
    if len(name.encode()) > _NAME_BYTES:
        raise ModelError(f"name '{name}': give a shorter one with --name: {_NAME_BYTES} bytes at most")


def identifier(name: str) -> str:
    """Return `name` as a lower-case C identifier: what prefixes a bundle's functions."""
    cleaned = _clean(name, "model").lower()
    return f"{cleaned}_" if cleaned in TAKEN | KEYWORDS else cleaned


def c_names(names: Iterable[str]) -> dict[str, str]:
    """Return a C identifier per name, all different even in upper case (macros are made of them)."""
    result: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        base = candidate = _clean(name, "tensor")
        count = 1
        while candidate.lower() in taken:
            count += 1
            candidate = f"{base}_{count}"
        taken.add(candidate.lower())
        result[name] = candidate
    return result


def c_string(text: str) -> str:
    """Return `text` as a C string literal; bytes outside ASCII as octal escapes, which end by themselves."""
    plain = "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\?' else f"\\{byte:03o}" for byte in text.encode()
    )
    return f'"{plain}"'


def c_comment(text: str) -> str:
    """Return `text` for the inside of a C comment, on one line."""
    return " ".join(text.split()).replace("*/", "* /").replace("/*", "/ *")


def c_float(value: float) -> str:
    """Return `value` as a C float literal that reads back to the same float32."""
    text = np.format_float_scientific(np.float32(value), unique=True, trim="0")
    return f"{text}f"


def _clean(name: str, fallback: str) -> str:
    """Letters, digits and single underscores, starting with a letter, and no keyword."""
    text = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_") or fallback
    if text[0].isdigit():
        text = f"{fallback[0]}{text}"
    return f"{text}_" if text in KEYWORDS else text

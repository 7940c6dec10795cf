"""What code says, wherever it lies: a hash of definitions that moving or renaming them doesn't change.

A definition is what one name of a module stands for: a function, a class, a constant. Its words are its
syntax tree without comments, docstrings, annotations and its own name. A name that it reads from its module,
or by an import from another module of the package, is a reference to a definition in turn. So paths, import
lines and the names of modules don't count, nor does the version of Python.
"""

import ast
import builtins
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from itertools import groupby
from pathlib import Path

PACKAGE = "edgec.kernels"
"""What is outside it counts by its name alone."""


@dataclass(frozen=True)
class Reference:
    """A definition, by the module that binds it and its name there."""

    module: str
    name: str


Word = str | Reference


def fingerprint(words: Iterable[Word]) -> str:
    """Return a hash of `words` and of everything that the definitions among them say, directly or not.

    Definitions refer to each other in circles, so each is told apart from the others by colour refinement
    (Weisfeiler and Leman 1968): first by its own words, then by those of what it refers to, round by round.
    """
    entry = tuple(words)
    reached = _reached(entry)
    colours = dict.fromkeys(reached, "")
    kinds = 0
    while (found := len(set(colours.values()))) != kinds or kinds == 0:
        kinds = found
        colours = {definition: _hash(said, colours) for definition, said in reached.items()}
        if kinds == len(reached):
            break
    return hashlib.sha256("".join([_hash(entry, colours), *sorted(colours.values())]).encode()).hexdigest()


def _reached(words: Iterable[Word]) -> dict[Reference, tuple[Word, ...]]:
    """Return the words of every definition that `words` lead to."""
    found: dict[Reference, tuple[Word, ...]] = {}
    waiting = [word for word in words if isinstance(word, Reference)]
    while waiting:
        definition = waiting.pop()
        if definition not in found:
            found[definition] = _module(definition.module).words(definition.name)
            waiting += [word for word in found[definition] if isinstance(word, Reference)]
    return found


def _hash(words: Iterable[Word], colours: dict[Reference, str]) -> str:
    texts = (colours[word] if isinstance(word, Reference) else word for word in words)
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


@cache
def _module(name: str) -> "_Module":
    return _Module(name, ast.parse(_file(name).read_text(encoding="utf-8")))


def _root() -> Path:
    """Return the package's folder."""
    return Path(next(iter(import_module(PACKAGE).__path__)))


def _file(name: str) -> Path:
    """Return the file of a module of the package; it need not exist."""
    path = _root().joinpath(*name.removeprefix(PACKAGE).split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _inside(name: str) -> bool:
    return name == PACKAGE or name.startswith(f"{PACKAGE}.")


@dataclass(frozen=True)
class _Imported:
    """What an import binds: a module (no name), or a name of one."""

    module: str
    name: str = ""


class _Module:
    """The names that a module binds."""

    def __init__(self, name: str, tree: ast.Module) -> None:
        self.name = name
        self.statements: dict[str, list[ast.stmt]] = {}
        self.imports: dict[str, _Imported] = {}
        for statement in _flattened(tree.body):
            self.imports |= _imported(statement, name)
            for bound in _bound(statement):
                self.statements.setdefault(bound, []).append(statement)

    def words(self, name: str) -> tuple[Word, ...]:
        """Return what the statements say that bind `name`."""
        scanner = _Scanner(self)
        for statement in self.statements[name]:
            scanner.words.append(str(_bound(statement).index(name)))  # which of `a, b = 1, 2` it is
            scanner.scan(statement)
        return tuple(_joined(scanner.words))

    def find(self, name: str) -> "Word | _Imported | None":
        """Return what a name of this module stands for, or None where it binds none."""
        if name in self.statements:
            return Reference(self.name, name)
        return _followed(self.imports[name]) if name in self.imports else None


def _joined(words: Iterable[Word]) -> Iterator[Word]:
    """Put texts between two references into one, as each is hashed in every round."""
    for is_reference, group in groupby(words, lambda word: isinstance(word, Reference)):
        said = list(group)
        yield from said if is_reference else ["\0".join(map(str, said))]


def _followed(imported: _Imported) -> Word | _Imported:
    """Return the definition behind an import, or the module, or the text that stands for what is outside."""
    if not imported.name:
        return imported if _inside(imported.module) else imported.module
    whole = f"{imported.module}.{imported.name}"
    if not _inside(imported.module):
        return whole
    if _file(whole).is_file():
        return _Imported(whole)
    found = _module(imported.module).find(imported.name)
    assert found is not None, f"{whole} is imported and isn't there"
    return found


def _flattened(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield a module's statements, those behind a condition too."""
    for statement in body:
        if isinstance(statement, ast.If | ast.Try | ast.With):
            for part in ("body", "orelse", "finalbody"):
                yield from _flattened(getattr(statement, part, []))
        else:
            yield statement


def _imported(statement: ast.stmt, module: str) -> dict[str, _Imported]:
    if isinstance(statement, ast.Import):
        return {
            alias.asname or alias.name.partition(".")[0]: _Imported(
                alias.name if alias.asname else alias.name.partition(".")[0]
            )
            for alias in statement.names
        }
    if isinstance(statement, ast.ImportFrom):
        assert statement.level == 0, f"{module}: imports are absolute"
        source = statement.module or ""
        return {alias.asname or alias.name: _Imported(source, alias.name) for alias in statement.names}
    return {}


def _bound(statement: ast.AST) -> list[str]:
    """Return the names that a statement binds, but for imports, in order."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return [statement.name]
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        stored = (node for target in targets for node in ast.walk(target))
        return [node.id for node in stored if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    return []


@dataclass
class _Scope:
    """The names of a function or class; None for those that mean nothing outside, else what they import."""

    names: dict[str, _Imported | None]
    is_class: bool = False


@dataclass
class _Scanner:
    """Writes down what a statement of a module says."""

    module: _Module
    words: list[Word] = field(default_factory=list)
    scopes: list[_Scope] = field(default_factory=list)

    def scan(self, node: ast.AST) -> None:
        """Add the words of a node and of all below it."""
        if isinstance(node, ast.Name | ast.Attribute) and (found := self._resolved(node)) is not None:
            self._add(found)
            return
        scope = _scope(node)
        if scope is not None:
            self._outside(node)
            self.scopes.append(scope)
        self.words.append(type(node).__name__)
        for name, value in ast.iter_fields(node):
            if name not in _SILENT and not (name in _OUTSIDE and scope is not None):
                self._field(name, value)
        if scope is not None:
            self.scopes.pop()

    def _outside(self, node: ast.AST) -> None:
        """Scan what is evaluated where a function or class is defined, not in it."""
        for name in _OUTSIDE:
            for value in getattr(node, name, None) or []:
                self.scan(value)
        for default in (*node.args.defaults, *node.args.kw_defaults) if hasattr(node, "args") else ():
            if default is not None:
                self.scan(default)

    def _field(self, name: str, value: object) -> None:
        if isinstance(value, list):
            self.words.append(f"{name}[")
            for item in value:
                self._field("", item)
            self.words.append("]")
        elif isinstance(value, ast.AST):
            if not _says_nothing(value):
                self.words.append(f"{name}:")
                self.scan(value)
        elif not (name == "name" and not self._nested()):  # a definition's own name
            self.words.append(f"{name}={value!r}")

    def _nested(self) -> bool:
        return len(self.scopes) > 1

    def _resolved(self, node: ast.expr) -> Word | _Imported | None:
        """Return what a name, or a name of a module, stands for; None for any other expression."""
        if isinstance(node, ast.Attribute):
            base = self._resolved(node.value) if isinstance(node.value, ast.Name | ast.Attribute) else None
            return _followed(_Imported(base.module, node.attr)) if isinstance(base, _Imported) else None
        if not isinstance(node, ast.Name):
            return None
        if isinstance(node.ctx, ast.Store) and not self.scopes:
            return "target"  # of the definition itself
        for depth, scope in enumerate(reversed(self.scopes)):
            if node.id in scope.names and not (scope.is_class and depth):
                imported = scope.names[node.id]
                return f"local {node.id}" if imported is None else _followed(imported)
        found = self.module.find(node.id)
        assert found is not None or hasattr(builtins, node.id), f"{self.module.name}: what is {node.id}?"
        return f"builtin {node.id}" if found is None else found

    def _add(self, found: Word | _Imported) -> None:
        if isinstance(found, _Imported):  # a module as a value: whatever it holds may be meant
            self.words += [Reference(found.module, name) for name in _module(found.module).statements]
        else:
            self.words.append(found)


_SILENT = frozenset(
    {"annotation", "returns", "ctx", "kind", "type_comment", "type_params", "defaults", "kw_defaults"}
)
"""Fields that don't decide what is computed, or that were read where the function is defined."""
_OUTSIDE = ("decorator_list", "bases", "keywords")


def _says_nothing(node: ast.AST) -> bool:
    """Whether a statement is a docstring, of a field too, or an import, which counts where it is read."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    return isinstance(node, ast.Import | ast.ImportFrom | ast.Pass)


def _scope(node: ast.AST) -> _Scope | None:
    """Return the names that a function, class or comprehension has of its own; None for other nodes."""
    if isinstance(node, ast.ClassDef):
        return _Scope(dict.fromkeys(name for line in node.body for name in _bound(line)), is_class=True)
    if isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
        targets = (part for one in node.generators for part in ast.walk(one.target))
        return _Scope(dict.fromkeys(part.id for part in targets if isinstance(part, ast.Name)))
    if not isinstance(node, ast.FunctionDef | ast.Lambda):
        return None
    arguments = node.args
    listed = [
        *arguments.posonlyargs,
        *arguments.args,
        *arguments.kwonlyargs,
        arguments.vararg,
        arguments.kwarg,
    ]
    names: dict[str, _Imported | None] = {one.arg: None for one in listed if one is not None}
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            names[part.id] = None
        elif isinstance(part, ast.FunctionDef | ast.ClassDef) and part is not node:
            names[part.name] = None
        elif isinstance(part, ast.Import | ast.ImportFrom):
            names |= _imported(part, "a function")
    return _Scope(names)

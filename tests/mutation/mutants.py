"""``mutants_of``: every small change of a module that a test ought to notice. Pure: source in, changes out.

A mutant changes one place: an operator, a bound, a number, a member of an enum, an entry of a table, a condition, a
statement. What only words a message (a string with a space in it), docstrings, annotations, imports and ``__slots__``
are left alone, and so are the values of enums that are nothing but identities.

A mutant is called by its module and the line as it reads with the change: line numbers go stale with the next edit.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast, final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Mutant", "members_of", "mutants_of"]

_COMPARE: Final[Mapping[type[ast.cmpop], tuple[str, str]]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
_BINARY: Final[Mapping[type[ast.operator], tuple[str, str]]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "+"),
    ast.LShift: ("<<", ">>"),
    ast.RShift: (">>", "<<"),
    ast.BitOr: ("|", "&"),
    ast.BitAnd: ("&", "|"),
}
_CALLS: Final = {"min": "max", "max": "min", "any": "all", "all": "any"}
_LEFT_ALONE: Final = frozenset({"__all__", "__slots__"})


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change: the bytes from ``start`` to ``end`` of the module become ``text``."""

    module: str
    start: int
    end: int
    text: str
    line: int
    becomes: str
    """The line with the change, without what surrounds it."""

    def apply(self, source: str) -> str:
        """The source of the mutant."""
        data = source.encode()
        return (data[: self.start] + self.text.encode() + data[self.end :]).decode()


def members_of(sources: Sequence[str]) -> dict[str, list[str]]:
    """The members of every enum in ``sources``, by its name."""
    return {
        node.name: [
            target.id
            for statement in node.body
            if isinstance(statement, ast.Assign)
            for target in statement.targets
            if isinstance(target, ast.Name)
        ]
        for source in sources
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef) and any("Enum" in ast.unparse(base) for base in node.bases)
    }


def mutants_of(module: str, source: str, members: Mapping[str, Sequence[str]]) -> list[Mutant]:
    """Every mutant of ``source``, in order; ``members`` as of ``members_of``."""
    return sorted(_Finder(module, source, members).mutants, key=lambda one: (one.start, one.end, one.text))


@final
class _Finder(ast.NodeVisitor):
    def __init__(self, module: str, source: str, members: Mapping[str, Sequence[str]]) -> None:
        self._module = module
        self._members = members
        self._data = source.encode()
        self._lines = [0]
        for line in self._data.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))
        self.mutants: set[Mutant] = set()
        self.visit(ast.parse(source))

    # --- places ---

    def _span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._lines[node.lineno - 1] + node.col_offset, self._lines[node.end_lineno - 1] + node.end_col_offset

    def _text(self, node: ast.expr | ast.stmt) -> str:
        start, end = self._span(node)
        return self._data[start:end].decode()

    def _leave_out(self, node: ast.stmt) -> None:
        start, end = self._span(node)
        line, words = self._data.count(b"\n", 0, start) + 1, " ".join(self._text(node).split())
        self.mutants.add(Mutant(self._module, start, end, "pass", line, f"without {words}"))

    def _change(self, start: int, end: int, text: str) -> None:
        line = self._data.count(b"\n", 0, start)
        first = self._lines[line]
        changed = self._data[first:start] + text.encode() + self._data[end:]
        parts = changed.split(b"\n", text.count("\n") + 1)[: text.count("\n") + 1]
        becomes = " ".join(part.decode().strip() for part in parts)
        if not becomes:  # an entry that has lines of its own
            becomes = "without " + " ".join(self._data[start:end].decode().split())
        self.mutants.add(Mutant(self._module, start, end, text, line + 1, becomes))

    def _replace(self, node: ast.expr | ast.stmt, text: str) -> None:
        self._change(*self._span(node), text)

    def _between(self, left: ast.expr, right: ast.expr, old: str, new: str) -> None:
        """Replace the operator between two expressions; brackets may stand around it."""
        start, end = self._span(left)[1], self._span(right)[0]
        pattern = r"\s+".join(re.escape(word) for word in old.split())
        found = re.search(pattern, self._data[start:end].decode())
        assert found is not None
        self._change(start + found.start(), start + found.end(), new)

    # --- what changes ---

    def visit_Compare(self, node: ast.Compare) -> None:
        """``<`` and ``<=``, ``is`` and ``is not``, and so on."""
        operands = [node.left, *node.comparators]
        for left, operator, right in zip(operands, node.ops, node.comparators, strict=False):
            self._between(left, right, *_COMPARE[type(operator)])
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        """``and`` and ``or``."""
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            self._between(left, right, old, new)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        """``+`` and ``-``, and so on; types in annotations are not visited."""
        if type(node.op) in _BINARY:
            self._between(node.left, node.right, *_BINARY[type(node.op)])
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        """Without ``not``, without the sign."""
        if isinstance(node.op, ast.Not | ast.USub):
            self._replace(node, f"({self._text(node.operand)})")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        """The next number, the other truth, another name."""
        match node.value:
            case bool():
                self._replace(node, str(not node.value))
            case int():
                self._replace(node, str(node.value + 1))
            case float():
                self._replace(node, repr(node.value * 1.5 + 0.25))
            case str() if " " not in node.value:
                self._replace(node, repr(f"{node.value}X"))
            case bytes():
                self._replace(node, repr(node.value + b"X"))
            case _:
                pass

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Words."""

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """The next member of an enum."""
        if isinstance(node.value, ast.Name) and node.attr in (names := self._members.get(node.value.id, ())):
            following = names[(names.index(node.attr) + 1) % len(names)]
            self._replace(node, f"{node.value.id}.{following}")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        """``min`` and ``max``, ``any`` and ``all``; ``strict=`` of ``zip`` is an assertion."""
        if isinstance(node.func, ast.Name) and node.func.id in _CALLS:
            self._replace(node.func, _CALLS[node.func.id])
        if isinstance(node.func, ast.Name) and node.func.id.startswith("check_"):  # its strings word a message
            for value in (*node.args, *(keyword.value for keyword in node.keywords)):
                if not (isinstance(value, ast.Constant) and isinstance(value.value, str)):
                    self.visit(value)
            return
        for part in ast.iter_child_nodes(node):
            if not (isinstance(part, ast.keyword) and part.arg == "strict"):
                self.visit(part)

    def visit_Dict(self, node: ast.Dict) -> None:
        """Without one entry."""
        pairs = [
            (self._span(key)[0], self._span(value)[1]) for key, value in zip(node.keys, node.values, strict=True) if key
        ]
        self._drop(pairs)
        self.generic_visit(node)

    def visit_Set(self, node: ast.Set) -> None:
        """Without one member."""
        if len(node.elts) > 1:
            self._drop([self._span(element) for element in node.elts])
        self.generic_visit(node)

    def visit_Tuple(self, node: ast.Tuple) -> None:
        """Without one row."""
        if len(node.elts) > 1 and all(isinstance(element, ast.Call | ast.Tuple) for element in node.elts):
            self._drop([self._span(element) for element in node.elts])
        self.generic_visit(node)

    def _drop(self, spans: Sequence[tuple[int, int]]) -> None:
        for start, end in spans:
            comma = re.match(rb"\)?\s*,", self._data[end:])
            self._change(start, end + (comma.end() if comma else 0), "")

    def visit_If(self, node: ast.If) -> None:
        """The other branch; not that of the type checker."""
        if self._text(node.test) == "TYPE_CHECKING":
            return
        self._negate(node.test)
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        """The other condition."""
        self._negate(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        """The other value."""
        self._negate(node.test)
        self.generic_visit(node)

    def _negate(self, test: ast.expr) -> None:
        if not isinstance(test, ast.Compare | ast.UnaryOp | ast.Constant):
            self._replace(test, f"not ({self._text(test)})")

    # --- statements ---

    def _worth(self, nodes: Sequence[ast.AST]) -> Iterator[ast.AST]:
        """What can matter: neither docstrings nor imports nor assertions."""
        for node in nodes:
            docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            if not docstring and not isinstance(node, ast.Import | ast.ImportFrom | ast.Assert):
                yield node

    def generic_visit(self, node: ast.AST) -> None:
        """All children; statements that can be left out are."""
        for _, value in ast.iter_fields(node):
            if isinstance(value, list):
                children = [one for one in cast("list[object]", value) if isinstance(one, ast.AST)]
                for child in self._worth(children):
                    self.visit(child)
            elif isinstance(value, ast.AST):
                self.visit(value)

    def visit_Expr(self, node: ast.Expr) -> None:
        """Nothing instead."""
        if isinstance(node.value, ast.Call):
            self._leave_out(node)
        self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        """No exception."""
        self._leave_out(node)
        self.generic_visit(node)

    def visit_Continue(self, node: ast.Continue) -> None:
        """The end of the loop."""
        self._replace(node, "break")

    def visit_Break(self, node: ast.Break) -> None:
        """No end of the loop."""
        self._replace(node, "continue")

    def visit_Assign(self, node: ast.Assign) -> None:
        """An attribute that keeps its value."""
        if any(isinstance(target, ast.Name) and target.id in _LEFT_ALONE for target in node.targets):
            return
        if all(isinstance(target, ast.Attribute | ast.Subscript) for target in node.targets):
            self._leave_out(node)
        self.visit(node.value)
        for target in node.targets:
            if isinstance(target, ast.Subscript):
                self.visit(target)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """The value; never the annotation."""
        if node.value is not None and self._text(node.annotation) != "TypeAlias":
            self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        """Nothing instead."""
        self._leave_out(node)
        self.visit(node.value)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Its body; of an enum without values that mean something only what it does."""
        bases = {self._text(base) for base in node.bases}
        identities = bool(bases & {"enum.Enum", "Enum"})
        for statement in self._worth(node.body):
            if not (identities and isinstance(statement, ast.Assign)):
                self.visit(statement)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Its defaults and its body."""
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None:
                self.visit(default)
        for statement in self._worth(node.body):
            self.visit(statement)

"""Two SVG pictures, drawn from the code: the map of the layers, and what becomes of an attempt. None is kept by hand.

The map comes from the graph of imports. A box is a part of the package, its row the longest way down to it, an
arrow an import. Arrows that others imply (a part that is also imported by what it imports) are left out, or nothing
could be seen. Not responsible for holding the layers: that is import-linter's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import grimp

from holdwire.policy.retry_table import TABLE
from holdwire.policy.verdict import RetryAction

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["draw", "draw_verdicts", "imports"]

_SAYS: Final = {
    "cli": "commands",
    "testing": "faults on demand",
    "doctor": "looks from outside",
    "transports": "httpx, httpx2",
    "http": "pool, HTTP/1.1, HTTP/2",
    "sessions": "long-lived streams",
    "tls": "engine, streams",
    "telemetry": "OpenTelemetry",
    "retrying": "stop, wait, budget",
    "net": "sockets, event loops",
    "switches": "off switches",
    "errors": "exceptions",
    "events": "what happened",
    "policy": "pure decisions",
}
"""From left to right within a row."""
_FONT: Final = 'font-family="sans-serif" font-size="13" text-anchor="middle"'
_PLAIN: Final = 'font-family="sans-serif" font-size="13"'
_MARKER: Final = (
    '<defs><marker id="a" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path d="M0 0 8 4 0 8z" fill="#64748b"/></marker></defs>'
)
_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _EDGE = 150, 46, 26, 40, 16


def imports() -> dict[str, set[str]]:
    """Which parts of the package each part imports, with what follows from others left out."""
    graph = grimp.build_graph("holdwire", cache_dir=None)
    direct: dict[str, set[str]] = {part: set() for part in _SAYS}
    for importer in graph.modules:
        part = _part(importer)
        if part is not None:
            found = {_part(imported) for imported in graph.find_modules_directly_imported_by(importer)}
            direct[part] |= {other for other in found if other is not None and other != part}
    return {part: _shown(part, direct) for part in direct}


def _part(module: str) -> str | None:
    _, _, rest = module.partition(".")
    part = rest.partition(".")[0]
    return part if part in _SAYS else None


def _reached(part: str, direct: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    for other in direct[part]:
        found |= {other} | _reached(other, direct)
    return found


def _shown(part: str, direct: Mapping[str, set[str]]) -> set[str]:
    implied: set[str] = set()
    for other in direct[part]:
        implied |= _reached(other, direct)
    return direct[part] - implied


def _row(part: str, shown: Mapping[str, set[str]]) -> int:
    return 1 + max((_row(importer, shown) for importer, others in shown.items() if part in others), default=-1)


def draw() -> str:
    """The picture."""
    shown = imports()
    rows: dict[int, list[str]] = {}
    for part in _SAYS:
        rows.setdefault(_row(part, shown), []).append(part)
    widest = max(map(len, rows.values()))
    width = widest * (_WIDTH + _GAP_X) - _GAP_X + 2 * _EDGE
    height = len(rows) * (_HEIGHT + _GAP_Y) - _GAP_Y + 2 * _EDGE
    at: dict[str, tuple[float, float]] = {}
    for row, parts in rows.items():
        y = float(_EDGE + row * (_HEIGHT + _GAP_Y))
        begin = (width - len(parts) * (_WIDTH + _GAP_X) + _GAP_X) / 2
        for number, part in enumerate(parts):
            at[part] = (begin + number * (_WIDTH + _GAP_X), y)
    size = f'width="{width}" height="{height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {size} {_FONT}>',
        "<title>Which part of holdwire imports which</title>",
        _MARKER,
        f'<rect {size} rx="8" fill="#f8fafc"/>',
        *(_arrow(at[part], at[other]) for part in sorted(shown) for other in sorted(shown[part])),
    ]
    for part, (left, y) in at.items():
        middle = left + _WIDTH / 2
        lines += [
            f'<rect x="{left:g}" y="{y:g}" width="{_WIDTH}" height="{_HEIGHT}" rx="6" fill="#fff" stroke="#2563eb"/>',
            f'<text x="{middle:g}" y="{y + 19:g}" font-weight="bold" fill="#0f172a">{part}</text>',
            f'<text x="{middle:g}" y="{y + 36:g}" font-size="11" fill="#475569">{_SAYS[part]}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    x1, y1 = start[0] + _WIDTH / 2, start[1] + _HEIGHT
    x2, y2 = end[0] + _WIDTH / 2, end[1]
    bend = (y2 - y1) / 2
    return (
        f'<path d="M{x1:g} {y1:g} C{x1:g} {y1 + bend:g} {x2:g} {y2 - bend:g} {x2:g} {y2:g}" fill="none" '
        'stroke="#64748b" marker-end="url(#a)"/>'
    )


_DONE: Final = {
    RetryAction.RETRY_NOW: "again, at once",
    RetryAction.RETRY_BACKOFF: "again, after a pause",
    RetryAction.RETRY_OTHER_ADDRESS: "try the next address",
    RetryAction.CONNECT_FIRST: "again, on a replacement",
    RetryAction.DELIVER: "give out the response",
    RetryAction.KEEP_WAITING: "wait on",
    RetryAction.SURFACE: "raise the error",
}
_COLUMNS: Final = (
    (RetryAction.RETRY_NOW,),
    (RetryAction.RETRY_BACKOFF,),
    (RetryAction.RETRY_OTHER_ADDRESS, RetryAction.CONNECT_FIRST, RetryAction.KEEP_WAITING, RetryAction.DELIVER),
    (RetryAction.SURFACE,),
)
_LINE, _COLUMN = 18, 212


def draw_verdicts() -> str:
    """What the rows of the retry table do first, as boxes; a row with proof is marked."""
    boxes: list[str] = []
    bottom = 0
    for number, actions in enumerate(_COLUMNS):
        left, top = _EDGE + number * (_COLUMN + _GAP_X // 2), _EDGE
        for action in actions:
            reasons = dict.fromkeys((row.reason, row.proof) for row in TABLE.values() if row.first is action)
            height = 34 + _LINE * len(reasons)
            boxes += [
                f'<rect x="{left}" y="{top}" width="{_COLUMN}" height="{height}" rx="6" fill="#fff" stroke="#2563eb"/>',
                f'<text x="{left + 12}" y="{top + 19}" font-weight="bold" fill="#0f172a">{_DONE[action]}</text>',
            ]
            for line, (reason, proof) in enumerate(reasons):
                words = f"\N{CHECK MARK} {reason}" if proof else reason
                look = "#15803d" if proof else "#475569"
                at = f'x="{left + (12 if proof else 27)}" y="{top + 39 + line * _LINE}"'
                boxes.append(f'<text {at} font-size="12" fill="{look}">{words}</text>')
            top += height + 12
        bottom = max(bottom, top)
    width = 2 * _EDGE + len(_COLUMNS) * (_COLUMN + _GAP_X // 2) - _GAP_X // 2
    size = f'width="{width}" height="{bottom + _EDGE - 12}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {bottom + _EDGE - 12}" {size} {_PLAIN}>',
            "<title>What is done first about each reason; a check mark: nothing can have been processed</title>",
            f'<rect {size} rx="8" fill="#f8fafc"/>',
            *boxes,
            "</svg>",
            "",
        ]
    )

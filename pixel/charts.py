"""Charts as numbers: what a template draws as SVG, and tells in a table beside it."""

from typing import NamedTuple

_HEIGHT, _STEP = 100, 20


class Bars(NamedTuple):
    """Stacked bars from zero, one for each moment in order; empty moments are there and empty.

    `bars` are dicts of `label`, `tip`, `x`, `counts` by kind and `parts` (kind, y, height); lengths are in the units of
    a view box of `width` by `height`.
    """

    title: str
    summary: str
    unit: str
    kinds: dict
    bars: list
    most: int
    first: str
    last: str
    width: int
    height: int = _HEIGHT
    step: int = _STEP

    @property
    def lines(self):
        """Where the grid's lines are."""
        return [{"y": round(self.height * share, 1)} for share in (0.25, 0.5, 0.75)]


def bars(title, summary, unit, kinds, columns):
    """Bars from columns [(label, {kind: count})]; `kinds` maps each kind (ok, warning, danger) to its words."""
    most = max((sum(values.values()) for _, values in columns), default=0)
    drawn = [_bar(n, label, values, kinds, most) for n, (label, values) in enumerate(columns)]
    ends = (columns[0][0], columns[-1][0]) if columns else ("", "")
    return Bars(title, summary, unit, kinds, drawn, most, *ends, width=max(1, len(columns)) * _STEP)


def _bar(place, label, values, kinds, most):
    parts, top = [], float(_HEIGHT)
    for kind in kinds:
        height = _HEIGHT * values.get(kind, 0) / most if most else 0
        top -= height
        if height:
            parts.append({"kind": kind, "y": round(top, 2), "height": round(height, 2)})
    told = [f"{words}: {values.get(kind, 0):,}" for kind, words in kinds.items()]
    return {
        "label": label,
        "tip": "\n".join([label, *told]),
        "x": place * _STEP,
        "counts": {kind: values.get(kind, 0) for kind in kinds},
        "parts": parts,
    }

"""Charts as numbers: what a template draws as SVG, and tells in a table beside it."""

from typing import NamedTuple

_HEIGHT, _STEP = 100, 20


def _grid(chart):
    """Where a chart's grid has its lines."""
    return [{"y": round(chart.height * share, 1)} for share in (0.25, 0.5, 0.75)]


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

    lines = property(_grid)


class Line(NamedTuple):
    """One figure over time as a line from zero, and the period before as another.

    `points` are dicts of `label`, `tip`, `x`, `value` and `previous`, the last two in words, or None where there is
    nothing; `now` and `before` are the places of the lines in a view box of `width` by `height`, as SVG spells them.
    """

    title: str
    summary: str
    unit: str
    points: list
    most: str
    now: str
    before: str
    width: int
    height: int = _HEIGHT
    step: int = _STEP

    lines = property(_grid)


def line(title, summary, unit, rows, told):
    """A line from rows of (label, value, previous value or None); `told` puts a value into words."""
    most = max((number for _, *pair in rows for number in pair if number is not None), default=0)
    points = [
        {
            "label": label,
            "value": told(value),
            "previous": None if previous is None else told(previous),
            "tip": f"{label}\n{told(value)}" + ("" if previous is None else f"\nbefore: {told(previous)}"),
            "x": place * _STEP,
        }
        for place, (label, value, previous) in enumerate(rows)
    ]
    now, before = ([row[column] for row in rows] for column in (1, 2))
    return Line(
        title, summary, unit, points, told(most), _path(now, most), _path(before, most), max(1, len(rows)) * _STEP
    )


def _path(values, most):
    """The middle of each column at the height of its value."""
    places = [
        (_STEP * (place + 0.5), _HEIGHT - 96 * value / most if most else _HEIGHT)
        for place, value in enumerate(values)
        if value is not None
    ]
    if len(places) == 1:
        # A line of one point would not be seen.
        places = [(places[0][0] - _STEP / 4, places[0][1]), (places[0][0] + _STEP / 4, places[0][1])]
    return " ".join(f"{x:g},{y:.1f}" for x, y in places)


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

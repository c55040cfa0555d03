"""Reports as files: one `.sql` a pipe, its name its address, its header its manual, its placeholders its parameters.

A header line is `-- title: ...`, `-- about: ...`, `-- <parameter>: <allowed>; default <value>. <Words.>` or
`-- returns <column>: <Words.>`; in place of a default it may say `required`, or `list of 2..10` for a parameter that is
given several times. A line that begins with two more spaces goes on with the one before, and the header ends with the
first line that is no such comment. A file whose name begins with an underscore is no pipe but the short form of a view.
"""

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

#: Bound by the server in every pipe, besides the common parameters that callers give.
BOUND = {
    "workspace", "websites", "since", "until", "now", "bots", "filters", "limit", "offset",
    # Of pipes that have a granularity: the buckets of the range, and the ends of all of them (see `metrics`).
    "names", "starts", "previous_starts", "edges",
    # Of pipes about one visitor: all ids of the same user.
    "linked",
}  # fmt: skip
#: Parameters from which the server makes some of BOUND, so that a pipe may have no place for them.
MADE_OF = {"granularity", "compare", "visitor_id"}

_PLACEHOLDER = re.compile(r"\{(\w+):([\w(), ']+)\}")
_MARKED = re.compile(r"marked\(\{filters:Array\(String\)\}, hit,[^)]+\)")
#: Functions that have a shorter twin for when there are no filters.
_TWINS = {"noted(unfiltered(hit)": "noted_unfiltered(hit", "firsts_of(": "firsts_unfiltered("}
#: What is true of every hit where there are no filters.
_ALWAYS = re.compile(r"is_(from|kept)\([^()]+\)")
#: A step after the first.
_STEP = re.compile(r"\n\+ is_step\(\{steps:Array\(String\)\}\[(?P<nth>\d+)\], hit, path, goal\) \* \d+")
_VIEW = re.compile(
    r"(?P<name>asked_events|kept_events)\(workspace = \{workspace:String\}, websites = \{websites:Array\(String\)\},\s+"
    r"since = (?P<since>.+?),\s+until = (?P<until>.+?),\s+"
    r"bots = \{bots:String\}, filters = \{filters:Array\(String\)\}\)"
)
_HEADER = re.compile(r"-- (returns )?(\w+): (.+)")
_RULE = re.compile(
    r"(?:one of (?P<words>[\w, -]+)|(?P<list>list of )?(?P<low>-?\d+)\.\.(?P<high>\d+))?[;,]?\s*"
    r"(?:default (?P<default>\"[^\"]*\"|[^.]+)|required)?\. (?P<about>.+)"
)


class Parameter(NamedTuple):
    """One parameter of a pipe. `words` are the allowed ones, or `low` and `high` the allowed range; else any text.

    Without a default it is required. With `several` it is given `low` to `high` times.
    """

    name: str
    type: str
    default: str | None
    about: str
    words: tuple = ()
    low: int | None = None
    high: int | None = None
    several: bool = False


class Pipe(NamedTuple):
    """One report."""

    name: str
    title: str
    about: str
    parameters: tuple
    columns: dict
    #: The statement, and the same without all that only filters need, which the warehouse understands in half the time.
    sql: str
    unfiltered: str
    #: The names of all its places.
    places: frozenset = frozenset()

    def statement(self, bound):
        """The shortest statement for a question: without what only filters, several websites or further steps need."""
        sql = self.sql if bound["filters"] else self.unfiltered
        if len(bound["websites"]) == 1:
            # Of one website a person and a visitor are the same.
            sql = sql.replace("GROUP BY person, visitor", "GROUP BY visitor")
        return _STEP.sub(lambda step: step[0] if int(step["nth"]) <= len(bound["steps"]) else "", sql)


class BrokenPipe(Exception):
    """A pipe's file does not say what it must."""


@cache
def all():
    """Every pipe that has an address, as `{name: Pipe}`."""
    files = sorted(Path(__file__).parent.glob("*.sql"))
    return {file.stem: parse(file.stem, file.read_text()) for file in files if not file.stem.startswith("_")}


def parse(name, text):
    """The Pipe that a file's text declares. Raises BrokenPipe."""
    title = about = ""
    parameters, columns = [], {}
    types = dict(_PLACEHOLDER.findall(text))
    if types.get("workspace") != "String":
        raise BrokenPipe(f"{name} does not ask for {{workspace:String}}.")
    for line in _header_lines(text):
        found = _HEADER.fullmatch(line)
        if not found:
            raise BrokenPipe(f"{name}: no header line: {line}")
        returns, word, words = found.groups()
        if returns:
            columns[word] = words
        elif word == "title":
            title = words
        elif word == "about":
            about = words
        else:
            parameters.append(_parameter(name, word, words, types))
    undeclared = types.keys() - BOUND - {parameter.name for parameter in parameters}
    if undeclared or not (title and about and columns):
        raise BrokenPipe(f"{name} lacks a title, an about, columns or a line for {sorted(undeclared)}.")
    sql = _bare(text)
    return Pipe(name, title, about, tuple(parameters), columns, sql, _unfiltered(sql), frozenset(types))


def _unfiltered(sql):
    """A statement as it is for a question without filters. Raises BrokenPipe where it cannot leave them out."""
    short = _VIEW.sub(_short_form, _MARKED.sub("unfiltered(hit)", sql))
    for whole, without in _TWINS.items():
        short = short.replace(whole, without)
    short = _ALWAYS.sub("1", short)
    if "{filters:" in short:
        raise BrokenPipe(f"The filters cannot be left out of: {sql}")
    return short


def _short_form(view):
    """The file that stands for a view, with what the view was given: its since and until may be reckoned."""
    text = _bare((Path(__file__).parent / f"_{view['name']}.sql").read_text())
    return f"({text.replace('{since:UInt64}', view['since']).replace('{until:UInt64}', view['until'])})"


def _bare(text):
    """The statement alone: the client reads every word of what it sends, which took 4 ms a question for the remarks."""
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("--"))


def _header_lines(text):
    lines = []
    for line in text.splitlines():
        if not line.startswith("-- "):
            break
        if line.startswith("--   ") and lines:
            lines[-1] += " " + line[2:].strip()
        else:
            lines.append(line.strip())
    return lines


def _parameter(pipe, name, rule, types):
    found = _RULE.fullmatch(rule)
    if not found or name not in types.keys() | MADE_OF:
        raise BrokenPipe(f"{pipe}: no rule for a parameter that is used: {name}: {rule}")
    words = tuple(word.strip() for word in (found["words"] or "").split(",") if word.strip())
    low, high = (int(found[end]) if found[end] else None for end in ("low", "high"))
    default = found["default"] and found["default"].strip('"')
    return Parameter(name, types.get(name, "String"), default, found["about"], words, low, high, bool(found["list"]))

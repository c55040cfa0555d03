"""The security test plan and the tests that prove it: every case has a test.

A test names its cases with `@pytest.mark.case(14, 15)`. The plan itself is not part of the repository.
"""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
#: The numbers of the plan, which has gaps.
PLAN = {
    *range(1, 7), *range(8, 13), *range(14, 21), *range(22, 33), *range(34, 38), *range(40, 44), *range(45, 49), 51, 52,
    54, 56, *range(58, 63), *range(64, 67), *range(68, 81), *range(82, 86), *range(87, 97), *range(98, 101), 102, 103,
    106, 107, *range(110, 113),
}  # fmt: skip
#: The parts of cases that do not apply here. Each of these cases has a test of what is left.
NOT_APPLICABLE = {
    10: "X-Api-Key is no credential here, so a request never has two. It is ignored.",
    15: "A key is found by the hash of the whole, so a wrong secret and an unknown id are the same lookup.",
    22: "A user is neither deleted nor disabled, only removed from a workspace. Keys belong to the workspace.",
    54: "No list of the API has a cursor: limit and offset choose the rows.",
    78: "There is no second factor, so every password needs 15 characters.",
    87: "No page shows a key a second time, and no user can change an e-mail address.",
    98: "No mail has an HTML part.",
    107: "An unknown route or method needs no key (404, 405), so it counts for no workspace.",
}


def test_every_case_has_a_test() -> None:
    marked = set(cases())
    assert marked - PLAN == set(), "These cases are not in the plan."
    assert PLAN - marked == set(), "These cases have no test."
    assert NOT_APPLICABLE.keys() <= marked, "A case of which only a part applies needs a test of the rest."


def cases() -> dict[int, list[ast.FunctionDef]]:
    """Return the tests that name each case."""
    tests = defaultdict(list)
    for test in functions():
        for decorator in test.decorator_list:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.case":
                assert decorator.args, f"{test.name} names no case."
                for argument in decorator.args:
                    tests[ast.literal_eval(argument)].append(test)
    return tests


def functions() -> Iterator[ast.FunctionDef]:
    """Yield every test function of every test file."""
    for file in sorted(TESTS.rglob("test_*.py")):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield node

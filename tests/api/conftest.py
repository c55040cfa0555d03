"""What several of these tests ask."""

import pytest

from tests.cast import READ, WRITE, Workspace


@pytest.fixture(scope="module")
def desk(app):
    """A caller whose website is only ever sent single events that nobody counts."""
    workspace = Workspace(app, "desk.example")
    caller = workspace.key(READ, WRITE)
    caller.site = workspace.site
    return caller

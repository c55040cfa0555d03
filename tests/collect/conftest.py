"""What several of these tests ask."""

import pytest

from tests import cast
from tests.collect.pages import Browser


@pytest.fixture
def browser(app, ada):
    return Browser(app, ada.site)


@pytest.fixture
def statements(app):
    """What the control database is asked, from now on."""
    with cast.statements(app) as asked:
        yield asked

"""Registers the fixtures that every suite may use."""

from hypothesis import settings

# Time decides no test, on no machine.
settings.register_profile("dragoman", deadline=None)
settings.load_profile("dragoman")

# A module stands after those it imports: one that is imported before it is registered loses its assertion messages.
pytest_plugins = [
    "tests.support.process",
    "tests.support.scripted",
    "tests.support.demo",
    "tests.support.aimock",
    "tests.support.recorded",
    "tests.support.matrix",
    "tests.support.postgres",
    "tests.support.databases",
]

"""What test suites share: fixtures (registered in tests/conftest.py) and helpers to import."""

"""Loads the plugin where zmlx is used from its checkout; an installed zmlx brings it by its entry point."""

pytest_plugins = ["zmlx.testing.plugin", "pytester"]

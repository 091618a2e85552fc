"""The version, for modules that may not look up to the package itself."""

__version__ = "0.1.0"

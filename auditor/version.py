"""The version, alone in a module without imports so that `auditor --version` costs nothing."""

__version__ = "0.1.0"

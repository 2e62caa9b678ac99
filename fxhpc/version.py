"""The version of fxhpc: read by setup.py, named in every greeting on a link."""

__version__ = "0.1.0"

"""Scaling studies of self-correction in language models, run end to end."""

__all__ = ["__version__"]
__version__ = "0.1.0"

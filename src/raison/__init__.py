"""raison: the reasons behind labels."""

__version__ = "0.1.0"

"""The version of this release, read by the packaging and by nothing at run time but ``--version``."""

__version__ = "0.1.0"

"""The command line: one command a verb."""

from muscan.cli.app import main

__all__ = ["main"]

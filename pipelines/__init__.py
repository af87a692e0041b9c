"""Compositions of stages, the command line, configuration and tracking."""

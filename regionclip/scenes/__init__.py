"""Pictogram scenes: a small, deterministic, captioned and boxed image collection drawn from a font."""

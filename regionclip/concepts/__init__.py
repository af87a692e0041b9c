"""Concepts: what captions name, and the pool of those they name often enough."""

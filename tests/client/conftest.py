"""Fixtures for workers."""

from support.workers import new_worker, ps, serve, system

__all__ = ["new_worker", "ps", "serve", "system"]

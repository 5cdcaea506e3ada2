"""Fixtures for the jobs service."""

from support.workers import new_worker, ps, serve, spawn, system

__all__ = ["new_worker", "ps", "serve", "spawn", "system"]

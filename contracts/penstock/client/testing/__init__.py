"""An application's tests without a server: jobs in memory, under a virtual clock."""

from penstock.client.testing.system import TestSystem

__all__ = ["TestSystem"]

"""The Python SDK: everything an application needs to use Penstock."""

from penstock.client.penstock import Penstock

__all__ = ["Penstock"]

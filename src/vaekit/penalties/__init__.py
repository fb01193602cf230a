"""Additions to the bound, and their critics."""

from vaekit.penalties.base import Critic, Penalty

__all__ = ["Critic", "Penalty"]

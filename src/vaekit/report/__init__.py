"""A run as one page: what was trained, how it went, what it can do, and what to do next."""

from vaekit.report.write import NAME, QUICK_IMAGES, write_report

__all__ = ["NAME", "QUICK_IMAGES", "write_report"]

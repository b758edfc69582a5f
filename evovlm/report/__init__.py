"""The report of a study: one self-contained HTML page, and a small static plot.

Knows the files of a study; runs no models. Also works for a study whose search is still running.
"""

from evovlm.report._page import write_report
from evovlm.report.svg import write_svg

__all__ = ["write_report", "write_svg"]

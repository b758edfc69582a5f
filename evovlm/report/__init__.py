"""The report of a study: one self-contained HTML page, and a small static plot.

Knows the files that a study leaves; runs no models. A study in the middle of its search has a report too.
"""

from evovlm.report._page import write_report
from evovlm.report.svg import write_svg

__all__ = ["write_report", "write_svg"]

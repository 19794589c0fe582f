"""Pages of one file that open offline: the report, and the comparison of reports."""

from bbnn_uq.pages.comparison_page import comparison_page
from bbnn_uq.pages.rendering import render
from bbnn_uq.pages.report_page import report_page

__all__ = ["comparison_page", "render", "report_page"]

"""What a run found: one renderer per kind of result gives a section; page, terminal and model card show sections."""

from w2v_abx.report.model_card import write_model_card
from w2v_abx.report.page import write_report
from w2v_abx.report.summary import Summary, summarize
from w2v_abx.report.terminal import print_summary

__all__ = ["Summary", "print_summary", "summarize", "write_model_card", "write_report"]

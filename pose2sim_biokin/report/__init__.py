"""Reports: one self-contained HTML page for a trial, a comparison, a session; backends side by side on video.

A page needs no network and nothing beside it: Plotly.js, style and data are inside. What is on it comes from
`compare.result.BackendResult` and `compare.comparison.Comparison`; the numbers are theirs, only rounded.
"""

from pose2sim_biokin.report.comparison import write_comparison_report
from pose2sim_biokin.report.session import SessionEntry, write_session_page
from pose2sim_biokin.report.trial import trial_figures, write_trial_report
from pose2sim_biokin.report.video import write_side_by_side, write_side_by_sides

__all__ = [
    "SessionEntry",
    "trial_figures",
    "write_comparison_report",
    "write_session_page",
    "write_side_by_side",
    "write_side_by_sides",
    "write_trial_report",
]

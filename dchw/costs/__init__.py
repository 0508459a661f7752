"""From event counts and cycles to joules and square millimetres, each row with its source.

Energy = sum of count x energy per event + clock + leakage x time + DRAM. Rows are the truth: every total is a sum of
rows, and a count without an energy, or a row gone missing, is an error, never zero.
"""

from dchw.costs.accounting import account, check_complete, unit_costs
from dchw.costs.cost_report import CostReport, Work
from dchw.costs.frames import FrameEnergy, per_frame
from dchw.costs.rows import AreaRow, CostRow
from dchw.costs.sensitivity import Assumption

__all__ = [
    "AreaRow",
    "Assumption",
    "CostReport",
    "CostRow",
    "FrameEnergy",
    "Work",
    "account",
    "check_complete",
    "per_frame",
    "unit_costs",
]

"""The two records the memory kernels work on: ``FIXED`` (what never changes) and ``LIVE`` (one per channel).

Kernels take them as ``f`` and ``m`` and use their fields by name. Records and not separate arrays: passing an array
costs a reference count per call, passing a record nothing.
"""

from __future__ import annotations

import numpy as np

FAR = 1 << 60
"""A clock that never comes."""
CLOSED, OPENING = -1, -2
"""``open_row`` of a bank without a row, and of one between the two parts of its activation."""
ORDER = 64
"""A request's order is its clock of arrival times this plus its bank: of two requests the smaller one is older."""

# Limits; compile-time numbers, so that every place in a record is one.
BANKS_MAX = 62  # banks of all ranks of a channel; below ORDER
RANKS_MAX = 8
COMMANDS_MAX = 16
RULES_MAX = 512
WINDOWS_MAX, WINDOW_MAX = 4, 8
QUEUE_MAX = 256
SLOTS_MAX = 2 * QUEUE_MAX + BANKS_MAX
MAINTENANCE_MAX = 1 << 10
RING = 1 << 12  # completions a caller may leave unread
LATENCY_BINS = 1 << 16  # read latencies from 0 up; the last bin takes everything longer
OCCUPANCY_BINS = 512
TRACE_MAX = 1 << 16
CODE_BITS = 62  # of a command on the command and address lines, all beats
COLUMN_AT, BANK_AT, GROUP_AT, ROW_AT = 0, 16, 24, 32  # where an address' parts stand in one number
COLUMN_BITS = 24  # of a request's key, below its row and bank

# Values of f.kind, f.policy and f.refresh; the queues; a third list beside them.
DRAM, FIXED_RATE = range(2)
OPEN_ROWS, CLOSED_ROWS, TIMEOUT_ROWS = range(3)
NO_REFRESH, ALL_BANK, PER_BANK = range(3)
READ_QUEUE, WRITE_QUEUE, OPENED = range(3)
# Rows of m.wanted: what the oldest requests of a queue want of a bank, then requests whose row was opened for them.
ACCESS, ACTIVATE, PRECHARGE, WANTS = range(4)  # the last: rows per queue
OPENED_READS, OPENED_WRITES = 2 * WANTS, 2 * WANTS + 1

Fields = list[tuple[str, type] | tuple[str, type, tuple[int, ...]]]


def _numbers(names: str) -> Fields:
    return [(name, np.int64) for name in names.split()]


_COMMANDS = "act act2 pre prea rd wr rda wra refa refb sync_rd sync_wr"
_FIXED: Fields = [
    *_numbers("kind banks ranks banks_per_rank write_high write_low policy row_timeout refresh refresh_every"),
    *_numbers("read_latency write_latency postamble activate_window sync_gap burst others_up others_down"),
    *_numbers("refresh_cycle bank_refresh_cycle service service_unit trace_length"),
    *_numbers("refreshed_banks partner"),  # of one command of f.refb; from a bank to the one refreshed with it
    *_numbers(_COMMANDS),  # number of the command in each role; -1 without one
    *_numbers("none"),  # -1 as a field: kernels would be compiled once more for a literal
    ("whole_rank", np.int64, (COMMANDS_MAX,)),  # [command]: goes to all banks of a rank
    ("room", np.int64, (2,)),  # [queue]
    # codes on the command and address lines, where their edges are counted; otherwise no beats
    *_numbers("code_lines code_rate code_columns"),  # lines, beats per clock, columns per burst
    *[(name, np.int64, (COMMANDS_MAX,)) for name in ["code_beats", "code_ones", "code_variable"]],
    *[(name, np.int64, (COMMANDS_MAX, CODE_BITS)) for name in ["code_from", "code_to"]],  # [command, variable bit]
    ("clocks", np.int64, (COMMANDS_MAX,)),  # [command]: clocks on the command bus
    ("node", np.int64, (BANKS_MAX, 4)),  # [bank, level]: number of the bank's node among those of the level
    ("node_banks", np.int64, (4,)),  # [level]: banks of a node
    # [preceding command]: its rules in the lists below; first plain ones of the channel, then of the bank, of its rank
    # or bank group, then others
    ("rule_first", np.int64, (COMMANDS_MAX + 1,)),
    ("rule_bank", np.int64, (COMMANDS_MAX,)),
    ("rule_node", np.int64, (COMMANDS_MAX,)),
    ("rule_wide", np.int64, (COMMANDS_MAX,)),
    ("rule_level", np.int64, (RULES_MAX,)),
    ("rule_following", np.int64, (RULES_MAX,)),
    ("rule_latency", np.int64, (RULES_MAX,)),
    ("rule_window", np.int64, (RULES_MAX,)),
    ("rule_sibling", np.int64, (RULES_MAX,)),
    ("rule_history", np.int64, (RULES_MAX,)),
]
_LIVE: Fields = [
    *_numbers("clock last_accept bus_free write_mode next_refresh refresh_bank"),
    *_numbers("plan_stale plan_time plan_kind plan_list plan_target plan_command new_slot"),
    *_numbers("n_free act2_slot act2_deadline sync_list sync_slot sync_expiry service_free"),
    *_numbers("maint_head maint_count out_head out_tail logged"),
    *_numbers("reads writes forwarded merged hits misses conflicts"),
    *_numbers("latency_sum latency_max first_accept last_completion occupancy_from occupancy_shift"),
    # command and address lines: what is left of the command on them, its next beat, their last level; edges and levels
    *_numbers("word word_beats word_from line_level line_rises line_highs"),
    ("waiting", np.int64, (2,)),  # [queue]: requests
    ("oldest", np.int64, (2, BANKS_MAX)),  # [queue, bank]: ends of the chain of requests, -1 without one
    ("newest", np.int64, (2, BANKS_MAX)),
    ("oldest_hit", np.int64, (2, BANKS_MAX)),  # [queue, bank]: oldest request for the open row
    ("oldest_other", np.int64, (2, BANKS_MAX)),  # [queue, bank]: oldest request for another row
    ("open_row", np.int64, (BANKS_MAX,)),
    ("opened_for", np.int64, (BANKS_MAX,)),  # [bank]: slot that its row was or is being opened for, else -1
    ("wanted", np.int64, (2 * WANTS + 2, BANKS_MAX)),  # [row, bank]: order of the oldest request; FAR without one
    ("wanting", np.int64, (2 * WANTS + 2,)),  # [row]: banks with such a request
    ("wanting_sum", np.int64, (2 * WANTS + 2,)),  # [row]: sum of their numbers; where there is one, it
    ("last_use", np.int64, (BANKS_MAX,)),  # [bank]: clock of the last activate or column command
    ("free", np.int64, (SLOTS_MAX,)),  # stack of free slots
    ("ready", np.int64, (COMMANDS_MAX,)),  # [command]: first clock that rules of the whole channel allow it
    ("bank_ready", np.int64, (COMMANDS_MAX, BANKS_MAX)),  # [command, bank]: the same of all other rules
    *[
        (name, np.int64, (SLOTS_MAX,))
        for name in ["bank", "row", "key", "arrived", "tag", "is_write", "counted", "next", "previous"]
    ],
    ("history", np.int64, (WINDOWS_MAX, BANKS_MAX, WINDOW_MAX)),  # [window, node, ..]: last clocks of its command
    ("open_banks", np.int64, (RANKS_MAX,)),  # [rank]: bank-state times
    ("power_from", np.int64, (RANKS_MAX,)),
    ("any_open_clocks", np.int64, (RANKS_MAX,)),
    ("open_bank_clocks", np.int64, (RANKS_MAX,)),
    ("refreshing_until", np.int64, (RANKS_MAX,)),
    ("precharged", np.int64, (RANKS_MAX,)),  # banks precharged, one by one or together
    ("maintenance", np.int64, (MAINTENANCE_MAX,)),  # ring of banks or ranks to refresh
    ("out", np.int64, (RING, 2)),  # ring of tag and completion clock
    ("counts", np.int64, (BANKS_MAX, COMMANDS_MAX)),  # commands; all-bank ones at the first bank of the rank
    ("occupancy", np.int64, (2, OCCUPANCY_BINS)),  # request-clocks of each queue in bins of 2**occupancy_shift clocks
    ("latency", np.int64, (LATENCY_BINS,)),
    ("log", np.int64, (TRACE_MAX, 5)),  # clock, command, bank, row, column (-1 where none)
]
FIXED = np.dtype(_FIXED)
LIVE = np.dtype(_LIVE)

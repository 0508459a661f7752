"""Where everything lies in the integer arrays the memory kernels work on.

A memory is two arrays: ``fixed`` (numbers and tables that never change, shared by its channels) and ``live`` (one
row per channel). Plain names are places in ``fixed`` or in a row of ``live``; ``*_SIZE`` are record lengths. Kernels
take ``f`` and ``m``, the fixed array and one row. Limits are compile-time numbers, so that every place is one.
"""

from __future__ import annotations

FAR = 1 << 60
"""A clock that never comes."""
CLOSED, OPENING = -1, -2
"""``OPEN_ROW`` of a bank without a row, and of one between the two parts of its activation."""

# Limits.
BANKS_MAX = 62  # banks of all ranks of a channel: bits of one word
NODES_MAX = 1 + 3 * BANKS_MAX
COMMANDS_MAX = 16
RULES_MAX = 512
WINDOWS_MAX, WINDOW_MAX = 4, 8
QUEUE_MAX = 256
RANKS_MAX = 8
MAINTENANCE_MAX = 1 << 10
RING = 1 << 12  # completions a caller may leave unread
LATENCY_BINS = 1 << 16  # read latencies from 0 up; the last bin takes everything longer
OCCUPANCY_BINS = 512

# Values of f[KIND], f[POLICY], f[REFRESH].
DRAM, FIXED = range(2)
OPEN_ROWS, CLOSED_ROWS, TIMEOUT_ROWS = range(3)
NO_REFRESH, ALL_BANK, PER_BANK = range(3)

# fixed: numbers.
(
    KIND,
    BANKS,
    RANKS,
    BANKS_PER_RANK,
    READ_QUEUE,
    WRITE_QUEUE,
    WRITE_HIGH,
    WRITE_LOW,
    POLICY,
    ROW_TIMEOUT,
    REFRESH,
    REFRESH_EVERY,
    READ_LATENCY,
    WRITE_LATENCY,
    POSTAMBLE,
    ACTIVATE_WINDOW,
    SYNC_GAP,
    SHARE_PERIOD,
    SHARE_BUSY,
    REFRESH_CYCLE,
    BANK_REFRESH_CYCLE,
    SERVICE,
    SERVICE_UNIT,
    ACT,
    ACT2,
    PRE,
    PREA,
    RD,
    WR,
    RDA,
    WRA,
    REFA,
    REFB,
    SYNC_RD,
    SYNC_WR,
    NUMBERS,
) = range(36)
# fixed: tables.
CLOCKS = NUMBERS  # [command]: clocks on the command bus
NODE = CLOCKS + COMMANDS_MAX  # [bank, 4]: the node of each level above a bank
SIBLINGS = NODE + 4 * BANKS_MAX  # [node, 2]: first node of its level and how many
RULE_FIRST = SIBLINGS + 2 * NODES_MAX  # [command + 1]
RULES = RULE_FIRST + COMMANDS_MAX + 1  # [rule, RULE_SIZE], ordered by preceding command
RULE_LEVEL, RULE_FOLLOWING, RULE_LATENCY, RULE_WINDOW, RULE_SIBLING, RULE_HISTORY, RULE_SIZE = range(7)
FIXED_SIZE = RULES + RULES_MAX * RULE_SIZE

# live: numbers. N_READ, N_WRITE and N_OPENED stand in the order of the lists.
(
    CLOCK,
    LAST_ACCEPT,
    PLAN_STALE,
    PLAN_TIME,
    PLAN_KIND,
    PLAN_LIST,
    PLAN_PLACE,
    PLAN_COMMAND,
    NEW_SLOT,
    BUS_FREE,
    WRITE_MODE,
    N_READ,
    N_WRITE,
    N_OPENED,
    ACT2_SLOT,
    ACT2_DEADLINE,
    SYNC_LIST,
    SYNC_PLACE,
    SYNC_EXPIRY,
    NEXT_REFRESH,
    REFRESH_BANK,
    MAINT_HEAD,
    MAINT_COUNT,
    N_FREE,
    OUT_HEAD,
    OUT_TAIL,
    READS,
    WRITES,
    FORWARDED,
    MERGED,
    HITS,
    MISSES,
    CONFLICTS,
    LATENCY_SUM,
    LATENCY_MAX,
    LATENCY_MIN,
    FIRST_ACCEPT,
    LAST_COMPLETION,
    OCCUPANCY_FROM,
    OCCUPANCY_SHIFT,
    READ_OCCUPANCY,
    WRITE_OCCUPANCY,
    TRACED,
    SERVICE_FREE,
    COUNTERS,
) = range(45)
READ_LIST, WRITE_LIST, OPENED_LIST = range(3)
# live: tables.
READY = COUNTERS  # [node, command]: first clock the node allows the command
HISTORY = READY + NODES_MAX * COMMANDS_MAX  # [windowed rule, node, WINDOW_MAX]: last clocks of its preceding command
OPEN_ROW = HISTORY + WINDOWS_MAX * NODES_MAX * WINDOW_MAX  # [bank]
OPENED_FOR = OPEN_ROW + BANKS_MAX  # [bank]: requests whose row was opened for them and that have not issued
LAST_USE = OPENED_FOR + BANKS_MAX  # [bank]: clock of the last activate or column command
SLOTS = LAST_USE + BANKS_MAX  # [slot, SLOT_SIZE]: accepted requests; lists hold places of slots
BANK, ROW, KEY, ARRIVED, TAG, IS_WRITE, COUNTED, SLOT_SIZE = range(8)
SLOTS_MAX = 2 * QUEUE_MAX + BANKS_MAX
LISTS = SLOTS + SLOTS_MAX * SLOT_SIZE  # [list, place]: slots in order of arrival (opened ones: of opening)
FREE = LISTS + 3 * QUEUE_MAX  # [..]: stack of free slots
MAINTENANCE = FREE + SLOTS_MAX  # ring of banks or ranks to refresh
OUT = MAINTENANCE + MAINTENANCE_MAX  # [RING, 2]: ring of tag and completion clock
COUNTS = OUT + 2 * RING  # [bank, command]: commands issued; all-bank ones at the first bank of the rank
LATENCY = COUNTS + BANKS_MAX * COMMANDS_MAX  # [LATENCY_BINS]
OCCUPANCY = LATENCY + LATENCY_BINS  # [2, OCCUPANCY_BINS]: request-clocks of the read and the write queue
POWER = OCCUPANCY + 2 * OCCUPANCY_BINS  # [rank, POWER_SIZE]: bank-state times
OPEN_BANKS, POWER_FROM, ANY_OPEN_CLOCKS, OPEN_BANK_CLOCKS, REFRESHING_UNTIL, PRECHARGED, POWER_SIZE = range(7)
TRACE = POWER + RANKS_MAX * POWER_SIZE  # [.., 4]: clock, command, bank, row; up to the end of the row
TRACE_SIZE = 4

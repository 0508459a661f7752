"""What the fast engine's kernels run on: a program and its state as tables, of records with fields by name."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dchw.engines.named_rows import Ints, Rows

Ints32 = npt.NDArray[np.int32]

NOT_QUEUED, IN_QUEUE, DEFERRED = range(3)
"""Values of ``NodeRow.queued``; a deferred node runs when no other can go on."""
ITEM, SLOT = 1, 2
"""Bits of ``LinkRow.wanted``: whose end waits for it."""
FIXED, ROUND_ROBIN, OLDEST = range(3)
"""Values of ``ArbiterRow.policy``."""
NEVER_FIRES = np.int32(2**31 - 1)
"""Ends every list of firings."""


class NodeRow:
    """A firing node. What kernels look at most often stands first: it lies in one cache line."""

    next: int = 0
    """The firing in hand: the first that is not finished."""
    finish: int = 0
    """First cycle behind the one before."""
    started: int = 0
    """1 if the firing in hand has taken its items: in ``start``, having waited for link ``waited_for``."""
    start: int = 0
    occupied: int = 0
    """Where ``lists`` hold the cycles of each firing."""
    constant: int = 0
    """Cycles of every firing; 0: see ``occupied``."""
    serves: int = 0
    """As a server of lanes: before this firing it moves nothing but their items and no layer ends."""
    span: int = 0
    """The span of the firing in hand."""
    quiet: int = 0
    """Before this firing no link but ``main`` and ``other`` moves and no layer ends."""
    waited_for: int = 0
    into: int = 0
    """Links ``ends[into .. out_of]`` are its in-links"""
    out_of: int = 0
    """and ``ends[out_of .. stop]`` its out-links."""
    stop: int = 0
    count: int = 0
    """Firings in all."""
    main: int = 0
    """The in-link that moves most items, and the next one; -1: none."""
    other: int = 0
    lane: int = 0
    """A fork's targets are ``lane[lane .. lane + lanes]``."""
    lanes: int = 0
    join: int = 0
    """What its firings wait for together is ``join[join .. join + joins]``; none where few links move."""
    joins: int = 0
    queued: int = 0
    in_line: int = 0
    """The nodes in line, from the first on: those of rows ``queue_head``, ``queue_head + 1`` .. round the table."""
    coming: int = 0
    """1 if later windows have more firings; until then the next one may want an item of link ``awaits`` (-1: none)."""
    awaits: int = 0
    record: int = 0
    """Its kept firings are ``recorded[record .. record + recorded]``, from ``first_recorded`` on."""
    recorded: int = 0
    first_recorded: int = 0


class LaneRow:
    """One out-link of a fork, and, while the fork is in hand, all that changes of its target and the target's links."""

    items: int = 0
    """The link,"""
    node: int = 0
    """its target,"""
    other: int = 0
    """and the target's other busy in-link; -1: none."""
    fork: int = 0
    """The node whose out-link it is."""
    server: int = 0
    """The source of the other link, if it is done with the fork as well; -1: it is not."""
    beside: int = 0
    """The next lane with that server, round and round,"""
    first: int = 0
    """and the first of them."""
    next: int = 0
    """Of the target: fields of `NodeRow` of these names, and cycles idle."""
    finish: int = 0
    quiet: int = 0
    occupied: int = 0
    constant: int = 0
    idle: int = 0
    ring: int = 0
    """Of the link: fields of `LinkRow` of these names; ``taker`` is ``next_taker``."""
    taken_by: int = 0
    taken: int = 0
    taker: int = 0
    peak: int = 0
    other_taker: int = 0
    """Of the other link: the same, and what is needed to give."""
    other_taken_by: int = 0
    other_taken: int = 0
    other_given: int = 0
    other_given_by: int = 0
    other_giver: int = 0
    other_ring: int = 0
    other_mask: int = 0
    other_depth: int = 0
    other_initial: int = 0
    other_hold: int = 0
    other_peak: int = 0


class JoinRow:
    """One in-link of a node that waits for many, and while `dchw.engines.fast.joins` runs the state of its ends."""

    link: int = 0
    ring: int = 0
    """Of the link; so are the fields down to ``peak``."""
    mask: int = 0
    depth: int = 0
    initial: int = 0
    hold: int = 0
    taken_by: int = 0
    taken: int = 0
    given: int = 0
    next_taker: int = 0
    peak: int = 0
    quiet: int = 0
    """Of the link's source, as `dchw.engines.fast.runs.Giver` has them; so are the fields down to ``stall``."""
    occupied: int = 0
    constant: int = 0
    by: int = 0
    firing: int = 0
    giver: int = 0
    free: int = 0
    stall: int = 0


class LinkRow:
    """A queue. ``ring[ring .. ring + mask]`` hold an item's visible time and, once it is taken, its slot's.

    There are twice as many places as slots, so that both are at hand when a peak is looked at.
    """

    ring: int = 0
    mask: int = 0
    depth: int = 0
    """0: unbounded."""
    initial: int = 0
    hold: int = 0
    """Cycles from the one a slot is held from to the item's visible time."""
    given_by: int = 0
    """Where ``lists`` say which firing gives item 0; -1: firing k gives item k."""
    taken_by: int = 0
    source: int = 0
    """Number of a firing node, of an arbiter, counted on behind them, or (the last) of the memory."""
    target: int = 0
    given: int = 0
    """Items given, and items taken."""
    taken: int = 0
    next_giver: int = 0
    """The firing that gives the next item, and the one that takes the next."""
    next_taker: int = 0
    upto: int = 0
    peak: int = 0
    wanted: int = 0
    surplus: int = 0
    """Of the items given in all, those that nobody needs."""
    forked: int = 0
    """1 if it is a lane of a fork."""
    served: int = 0
    """The lane of which it is the other link, with a server; -1: none."""
    apart: int = 0
    """1 if a slot of it that is freed lets its source do nothing but give to it, and nobody waits for what that takes:
    it has no other out-links, and its in-links have no limit."""
    granted_first: int = 0
    """Kept grants of an arbiter's in-link are ``granted[granted_first .. granted]``, behind ``granted_before``."""
    granted: int = 0
    granted_before: int = 0


class SpanRow:
    """Firings of one node that belong to one layer."""

    end: int = 0
    start: int = 0
    finish: int = 0
    stall: int = 0
    idle: int = 0


class ArbiterRow:
    """An arbiter; channel c is ``ends[channels + 2 c]`` to ``ends[channels + 2 c + 1]``."""

    channels: int = 0
    channel_count: int = 0
    ports: int = 0
    """Its ports are ``port_free[ports .. ports_end]``."""
    ports_end: int = 0
    held: int = 0
    policy: int = 0
    period: int = 0
    dark: int = 0
    dark_length: int = 0
    last: int = 0
    pending: int = 0
    """Cycle of the next grant as far as is known; to be worked out anew if ``dirty``."""
    dirty: int = 0
    grants: int = 0
    waited: int = 0


class RunState:
    """The run as a whole; there is one."""

    queue_head: int = 0
    queue_count: int = 0
    deferrals: int = 0
    done: int = 0
    """Firings done; of these ``in_runs`` and ``with_forks`` by short cuts."""
    recording: int = 0
    window_from: int = 0
    window_to: int = 0
    latest_answer: int = 0
    memory_links: int = 0
    unfinished: int = 0
    """1 if there are later windows."""
    exhausted: int = 0
    """Firing nodes that have come to their last known firing."""
    in_runs: int = 0
    with_forks: int = 0


class Tables(NamedTuple):
    """The program and its state as flat arrays; see the column names of this module."""

    run: RunState
    node: Rows[NodeRow]
    link: Rows[LinkRow]
    ends: Ints
    lane: Rows[LaneRow]
    join: Rows[JoinRow]
    span: Rows[SpanRow]
    arbiter: Rows[ArbiterRow]
    port_free: Ints
    ring: Ints
    lists: Ints32
    scratch: Ints  # room of `runs.give_run`
    room: Ints  # and of `lanes.lanes_run`
    recorded: Ints  # [firings, 4]: start, finish, waited for, stalled by
    granted: Ints  # cycles of grants

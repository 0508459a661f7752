"""The fast engine: what the rules of time (`dchw.program.program`) imply, worked out without a clock or events.

Where things are::

    engine.py    a run: a Program becomes tables, advance is called until nothing is left, tables become a Timing
    flatten.py   from a Program to tables
    flat_lists.py  all lists of a program one behind another, as kernels read them
    windowed.py  a program in windows: what is carried from one set of tables to the next
    carried_queues.py  the same for its links
    program_tables.py  the tables, field by field
    queues.py    what taking (T3) and giving (T4) an item do to a link, and how full it was
    turns.py     who is in line to go on
    firings.py   advance: firing nodes go on until none can, then an arbiter or the memory decides
    singles.py   one firing of a node, whatever it moves
    room.py      where blocks of the two kernels below that go side by side are laid out
    runs.py      short cut: firings of one node that only take, or only give
    forks.py     short cut: a node that feeds many, with all that they do and all who serve them
    lanes.py     the same where the targets need nothing else, side by side
    ahead.py     lists brought nearer before they are read
    joins.py     short cut: a node that waits for many, with those
    shared.py    arbiters (T6, T7), and the engine's side of the memory (T8)

*Order does not show.* A firing node is determinate: its times follow from those of the items and slots it moves (T3,
T4), whatever order nodes are evaluated in. So there is no event queue. A node in line goes on as far as what it needs
is known, and the end of a link that waited for it gets in line (``LinkRow.wanted``). Only nodes that choose (arbiters,
the memory) need a time, and they decide when no firing node can go on: at the earliest cycle that any of them could
decide at, because what is not known yet follows some decision and is visible later.

*A link is a ring.* A place holds an item's visible time and, once it is taken, the time at which its slot is free
again. ``given`` and ``taken`` count items; ``lists`` say which firing moves which item. What moving one item means is
`queues.take_item` and `queues.give_item`, how full the queue was at most `queues.fill`, and what a node does until it
gives `runs.give_next`: kernels differ in how many items they move in one go, and call these.

*Short cuts change nothing but speed.* While no times are recorded, most firings need not be done one by one,
and which ones is told by links and lists alone:

- *Forks*: a node that gives the same items to many, through queues of one depth, is done together with its targets, a
  queue's length of items at a time: that is the recurrence of a broadcast array. Who gives the targets other items
  (decode units) is done with them, in turns with those it serves: it gives as far as there is room, they take what
  there is. A turn is long where a target takes many, and short where it takes few but costs little then, because what
  turns look at lies side by side in rows of its own (`LaneRow`). Where the targets need nothing else, a block of items
  is done at once, all targets of an item side by side.
- *Runs* (`firings._short_cut`): firings of one node that only take from its two busiest in-links, or that only give to
  the same out-links, are one loop. A firing whose item is not there yet has the giving node's firing done on the way,
  if that has nothing else to do: the two nodes and the queue between them become one recurrence.
- *Joins*: a node that waits for many at each firing, an array in lockstep for its decode units, is done together with
  those of them that have nothing to do but to give it its items: a block of firings at once, these nodes side by side.

Nothing of this is a mode: whatever moves another link (a chunk, a credit, a hand-over of sums, a layer's end, an item
more or less) is done firing by firing, on the same state, and the short cut is taken up again behind it.

*Passes are not skipped.* A layer works its weights again for every tile of pixels, but seldom in the same way: which
columns are broadcast, and for how many pixels, follows from the tile's activations. Of VGG-16's firings 1 % are in
passes equal to the one before, of SqueezeNet's 47 %, most of them in its first layer, whose input comes from DRAM while
it is worked. Times that shift alike from pass to pass could be found and added there; elsewhere nothing is to be won.

*Memory and time.* The tables are bounded by what is known of the program (its lists and unbounded links) and by rings
of twice the depth of each queue; a program in windows (`dchw.program.windows`) is known a few pieces at a time. A
recorded run is one of the whole program and adds what falls into its window of time. A call of ``advance`` does a
bounded amount of work, so that progress can be told and Ctrl-C is heard.
"""

"""Reliability figures: ``python -m tests.soak --minutes 10`` runs what the tests sample for as long as it is given.

- *machines*: random whole machines with random networks through both engines; every recorded time must be equal. A
  machine that is refused in a sentence counts as refused.
- *files*: ``.dchw`` files, machine YAML, studies and traces damaged by class, and files whose seal is right while what
  they say is absurd; each ends in a sentence or in the same network, in time and without more memory than its size.
- *kills*: every verb that writes, killed or interrupted at a random moment. What is left must be absent, the file that
  was there before, or whole, byte for byte; what can go on must end as if nothing had happened; and a verb that was
  interrupted must say truthfully what is on disk.
- *full disks*: every verb with its output on a file system of random size (a tmpfs where the system lets us mount one,
  else and for what is printed ``/dev/full``): a sentence, and nothing torn.

Prints a table, also of what was tried until Ctrl-C, and ends with status 1 for a traceback, a difference or a loss.
"""

"""Energy of a memory from what its channels did: per command, background by bank state, refresh, input and output.

From data-sheet currents, after the formulas DRAMPower 6.2 uses (V I summed over the rails, t in clocks times tCK)::

    activate         V (IDD0 - IDD3N) tRAS              precharge   V (IDD0 - IDD2N) tRP, per bank
    read, write      V (IDD4R|W - I3) burst             refresh     V (IDD5AB - IB) tRFCab, V (I5PB - IDD3N) tRFCpb
    background       V IDD2N while all banks are closed; else V Irho and V (IDD3N - Irho) for each open bank
    input, output    VDDQ (IDD4R|WQ - IDD3NQ) burst     where the currents of the interface rail are known

with rho the share of the standby rise that comes with the first open bank (``bank_share``), B the banks,
Irho = (B rho IDD3N + (1 - rho) IDD2N) / (B rho + 1 - rho), IB = Irho + B (IDD3N - Irho),
I5PB = (IDD5PB tREFI/8 - IDD2N (tREFI/8 - tRFCpb)) / tRFCpb and I3 = IDD3N, or 2 IDD3N - Irho with ``group_reads``.
Banks in refresh count as open. The input and output row is not DRAMPower's, which counts signal edges instead.

Without currents, the assumed energy per streamed bit is divided as the standard file says. Not in either: the
controller and PHY on the chip, power-down, temperature.
"""

from __future__ import annotations



"""The ring protocol: how records go in at one end and come out at the other, whoever dies in between.

This floor knows order, not the operating system: it is handed IPC objects (objects.py) and a doorway, and runs
unchanged on the simulated ones of tests/model.

The two counters only wake; head and tail decide. A token in full_slots or empty_slots says "look again": every waiter
looks at head and tail after each wake and each heartbeat, so a lost or an extra token can neither lose data nor hang
anyone. The turns exclude, and `writers` says who lives. A turn lasts one record. A process that dies in its turn leaves
its pid in the header; the next holder of the turn pays back one token of each kind, which is the most that the dead one
can have taken or owed.

The order that everything rests on: fill the slot, then move head, then release full_slots; use the slot, then
move tail, then release empty_slots. A fence (ring.py) keeps it on processors that do not keep it by themselves.
"""

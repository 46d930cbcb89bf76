"""Run a command and write its peak memory in KiB: `python launch.py OUTPUT COMMAND ...`.

A process begins with the peak of the one that started it (getrusage(2) counts from before its exec), so the start is
from here and not from the benchmark, which is larger than what it measures. It imports nothing else.
"""

import os
import sys

pid = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(pid, 0)
with open(sys.argv[1], "w") as output:
    output.write(str(usage.ru_maxrss))
sys.exit(os.waitstatus_to_exitcode(status))

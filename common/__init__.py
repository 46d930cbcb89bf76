"""What writer.py and reader.py share; layout.py is the place to start reading.

One folder is one floor, and imports point down: programs -> show -> cli -> ipc -> channel -> layout, errors. channel
never imports ipc: it is handed the objects.
"""

# _signal is built in, while signal.py would first import half a dozen files.
import _signal as signal  # type: ignore[import-not-found]
import sys

# First, and in words that Python 3.7 can read: what comes later would be a traceback and a half-made channel.
NEEDED = (3, 10)
if sys.version_info < NEEDED:
    found = "{}.{}.{}".format(*sys.version_info[:3])
    sys.exit(f"{sys.argv[0]}: needs Python {NEEDED[0]}.{NEEDED[1]} or newer; this is Python {found} ({sys.executable})")
if sys.platform != "linux" or sys.maxsize < 2**32:
    bits = 32 if sys.maxsize < 2**32 else 64
    sys.exit(f"{sys.argv[0]}: needs 64-bit Linux; this is a {bits}-bit Python on {sys.platform}")

# Until cli/run.py has its own handlers in place, Ctrl-C is a plain end and not a traceback out of an import.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

"""What writer.py and reader.py share; layout.py is the place to start reading.

Imports point one way: programs -> (control, view) -> cli -> (sysv_family, streams) -> (sysv, channel) -> (layout, ipc).
channel never imports sysv: it is handed a objects.
"""

# Built in, while signal.py would first import half a dozen files.
import _signal as signal  # type: ignore[import-not-found]

# Until cli.py has its own handlers in place, Ctrl-C is a plain end and not a traceback out of an import.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

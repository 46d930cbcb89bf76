"""What compare.py is made of: two processes, a measurement, the count of calls, and how it is shown."""

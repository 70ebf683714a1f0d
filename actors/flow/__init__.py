"""The pure core: a workflow is a coroutine that awaits only calls, so a run is a function from records to calls.

No I/O, no clock, no randomness, no event loop lives below this package; everything it knows arrives as a record.
"""

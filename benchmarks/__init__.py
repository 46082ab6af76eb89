"""The benchmark: hits, misses, ladders and overload, side by side with other image servers.

``make bench`` runs it, docs/benchmarks.md says what it measures and with which settings. Nothing imports
this. Read ``__main__`` first: the sections in their order.
"""

"""What is done to a whole cache. Each is one function with a plain result, and prints nothing.

Called by the command line, the ops pages, and the keeper of a server process.
"""

"""A real server under all that goes wrong below and around it, and every answer checked.

    PYTHONPATH=tests python -m support.torture --number 300 --seed 1 --only kills,calls

``kills`` ends the server, ``calls`` fails its system calls, ``loads`` deletes its cache, flips bits of its
index and moves its clock. ``tally`` judges and counts the answers, ``pictures`` knows what is right.
"""

"""What hostile and vanishing clients and a killed server come to, for a real server that takes pictures in.

    make intake                                  # all of it, about half an hour
    make intake ONLY=kills,exactness SEED=3      # N=5: a twentieth of it

Each kind prints figures, with what is wanted of them, and faults, which must not be. The exit code is 1 where
there is a fault; a figure that falls short is marked and no more, as it depends on the machine.
"""

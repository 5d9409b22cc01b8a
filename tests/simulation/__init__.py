"""The whole daemon in virtual time over a network in memory, with faults, from a seed (tests/README.md).

    python -m tests.simulation --seeds 100

plan        what a seed comes to: knobs, endpoints, moods, actions, stops; a value, made before anything runs
world       one run of a plan: clock, scheduler, network, daemon, platform; the only place that starts the daemon
wire        byte streams in memory
network     names, addresses and links, and the tap that sees every byte the daemon sends or reads
moods       the table of faults: what a receiver may do
people      the table of actions: what producers and operators may do, over HTTP
books       what is known from outside: registrations, events, duties, attempts
checks      the invariants, on what the books hold
accounts    the same for what the daemon says of itself: answers and reports
trace       what happened in order, its hash, and the coverage
shrink      the shortest failing form of a plan
mutants     seeded bugs, each of which the checks must catch
"""

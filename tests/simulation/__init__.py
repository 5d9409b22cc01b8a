"""The whole daemon in virtual time over a network in memory, with faults, from a seed (docs/testing.md).

    python -m tests.simulation --seeds 100

plan              what a seed comes to: knobs, endpoints, faults, actions, stops; a value, made before anything runs
engine            one run of a plan: virtual time and the scheduler's chance; what came of it
world             what it runs in: network, machine, one process of the daemon after the other, platform
machine           what each process leaves, and what the next one makes of it
surviving_files   the recorder's segments in memory, the report directory, and the blows that a process dies of
wire              byte streams in memory
network           names, addresses and network streams, and the tap that sees every byte the daemon sends or reads
faults            the table of faults: what a receiver may do
strange_answers   more of them: answers that count although something is strange
proxies           forward proxies, what they may do, and which way an endpoint is reached
talk              one request as its receiver handles it
workload          the table of actions: what producers and operators may do, over HTTP
changes           actions that change what deliveries are granted: reloads, schedules, secrets, long pauses, far clocks
starting          what the platform does at a start: it looks, registers, and sends reports again
model             what is known from outside: registrations, events, duties, attempts
invariants        the invariants, on what the model holds
proxy_invariants  the same for the way that an endpoint is reached
link_invariants   the same for links: which answers count, what a link may still be used for
terms_invariants  the same for what a delivery is granted: attempts, ages, what is promised
log_invariants    the same for what the log and the counters tell, once
in_force          schedules, secrets and holds: what is in force from when to when
answer_invariants the same for what the daemon says of itself: answers and reports
crashes           the same for crash reports
broken_off        the same for those of a run whose recorder failed while it went on
recovering        what a start must take back, by the lines of unclaimed reports
trace             what happened in order, its hash, and the counts
coverage          what must have happened over many seeds, and why the rest need not
ports             ports that raise, at any call of theirs, and what must follow
looks             looks at what the daemon says of that
holds             holds of the loop: how much one step does beside a large backlog
shrink            the shortest failing form of a plan
mutants           seeded bugs, each of which the checks must catch
"""

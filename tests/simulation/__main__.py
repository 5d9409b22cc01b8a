"""Runs plans from seeds."""
import sys, time
from tests.simulation.moods import MOODS
from tests.simulation.people import ACTIONS
from tests.simulation.plan import make_plan
from tests.simulation.world import run
kinds={k:v[0] for k,v in ACTIONS.items()}
first,count=int(sys.argv[1]),int(sys.argv[2])
import collections
for seed in range(first,first+count):
    t=time.process_time()
    plan=make_plan(seed,moods=MOODS,actions=kinds)
    r=run(plan,keeps_lines='-t' in sys.argv)
    if '-t' in sys.argv: print("\n".join(r.trace.lines))
    print(seed,r.trace.hash,round(r.virtual_seconds),round(time.process_time()-t,2),dict(r.trace.counts) if '-v' in sys.argv else r.trace.counts["attempts"],r.violation and (r.violation[:200]+' ... '+r.violation[-150:] if len(r.violation)>350 else r.violation).replace(chr(10),' '))

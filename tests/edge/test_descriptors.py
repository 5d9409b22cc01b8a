"""The descriptor limit bounds the connections, and never to nothing."""

import resource
import subprocess
import sys

from daemon.edge.descriptors import RESERVED, left_for_deliveries

RAISES = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
from daemon.edge.descriptors import raise_limit
print(raise_limit(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def test_soft_limit_is_raised_to_the_hard_one():
    """What the system allows is taken, in a process of its own."""
    ran = subprocess.run([sys.executable, "-c", RAISES], capture_output=True, text=True, check=True)
    returned, soft = map(int, ran.stdout.split())
    assert returned == soft == resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def test_deliveries_get_what_the_api_leaves():
    """A small limit is halved, and leaves one at the least."""
    assert left_for_deliveries(4096, api_connections_max=1000) == 4096 - RESERVED - 1000
    assert left_for_deliveries(1024, api_connections_max=1000) == (1024 - RESERVED) // 2
    assert left_for_deliveries(RESERVED, api_connections_max=1000) == 1

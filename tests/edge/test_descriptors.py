"""The descriptor limit bounds the connections, and never to nothing."""

import resource
import subprocess
import sys

from hookd.edge.descriptors import RESERVED, Shares, shares

RAISES = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
from hookd.edge.descriptors import raise_limit
print(raise_limit(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def test_soft_limit_is_raised_to_the_hard_one():
    """What the system allows is taken, in a process of its own."""
    ran = subprocess.run([sys.executable, "-c", RAISES], capture_output=True, text=True, check=True)
    returned, soft = map(int, ran.stdout.split())
    assert returned == soft == resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def test_deliveries_get_what_the_api_leaves_and_the_api_the_rest():
    """A small limit is halved, and leaves either one at the least; a large one is not used up."""
    defaults = {"deliveries_max": 4096, "api_max": 1000}
    assert shares(1 << 20, **defaults) == Shares(4096, 1000)
    assert shares(4096, **defaults) == Shares(4096 - RESERVED - 1000, 1000)
    assert shares(1024, **defaults) == Shares(480, 480)
    assert shares(64, **defaults) == Shares(16, 16)
    assert shares(1, **defaults) == Shares(1, 1)
    for limit in range(64, 6000, 7):
        share = shares(limit, **defaults)
        assert share.deliveries + share.api <= limit - min(RESERVED, limit // 2)

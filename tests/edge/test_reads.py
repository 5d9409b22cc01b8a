"""No read changes what the daemon holds: every GET route of the application, with much in it that invites a row."""

import gc
import types
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pytest
import trio
from hookd.core.settings import RetentionSettings, Settings
from hookd.flow.final_report import FinalReport  # noqa: F401

from tests.edge.test_api import Api
from tests.flow.harness import Flow, Hang, at, endpoint, now

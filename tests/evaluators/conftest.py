"""A Ray cluster for the tests that need one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    """A cluster whose head does no work, and one node with two cores. Its users skip where Ray is not installed."""
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 80 * 2**20})
    found.add_node(num_cpus=2, object_store_memory=80 * 2**20)
    yield found
    found.shutdown()

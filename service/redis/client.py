"""The client of the queue's server, be that one Redis or a Redis Cluster of several nodes.

All keys of a model lie under one hash tag, and so on one node: the client of a cluster finds that node, and
follows the keys when they move (a failover, a resharding).
"""

from typing import Any
from urllib.parse import quote

from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

Client = Redis | RedisCluster


def open_client(url: str, timeout_s: float) -> Redis:
    """url: redis://, rediss:// or unix://, or the path of a unix socket. Connects on first use.

    Raises ValueError for another kind of URL.
    """
    return Redis.from_url(_address(url), **_options(timeout_s))


async def as_cluster(client: Redis, url: str, timeout_s: float) -> RedisCluster | None:
    """A client of the whole cluster when the server says that it is part of one, else none.

    Through a unix socket only the node behind it can be reached, so that gives none either.
    """
    if not (await client.info("cluster")).get("cluster_enabled") or _address(url).startswith("unix:"):
        return None
    return RedisCluster.from_url(_address(url), **_options(timeout_s))


async def node_of(client: Client, key: str) -> ClusterNode | None:
    """Where the key is; None when there is only one server."""
    if not isinstance(client, RedisCluster):
        return None
    await client.initialize()
    return client.get_node_from_key(key)


async def persistence(client: Client, node: ClusterNode | None) -> dict[str, Any]:
    """What that node says of its append-only file."""
    target = {} if node is None else {"target_nodes": node}
    return await client.info("persistence", **target)


async def reconnect(client: Client) -> None:
    """Has the next command look up the addresses again."""
    await (client.aclose() if isinstance(client, RedisCluster) else client.connection_pool.disconnect())


async def close(client: Client) -> None:
    """The client of a cluster leaves connections open that it was about to make anew; this closes them, too."""
    await client.aclose()
    if isinstance(client, RedisCluster):
        for nodes in ("nodes_cache", "startup_nodes"):
            await client.nodes_manager.aclose(nodes)


def without_secrets(url: str) -> str:
    return _address(url).split("://", 1)[1].rsplit("@", 1)[-1].split("?", 1)[0]


def _address(url: str) -> str:
    return url if "://" in url else f"unix://{quote(url)}"


def _options(timeout_s: float) -> dict[str, Any]:
    """Every script may be run twice, so a lost connection is tried once more at once.

    A timeout is not, for it has used up the caller's time; only a cluster is asked once more where the keys are.
    """
    retry = Retry(ExponentialWithJitterBackoff(base=0.02, cap=0.1), 1, (RedisConnectionError,))
    return {
        "retry": retry,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "health_check_interval": 0,
    }

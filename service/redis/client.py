"""The client of the queue's server, which is one Redis or a Redis Cluster of several nodes.

All keys of a model have one hash tag, so they are on one node. The client of a cluster finds that node, and follows the
keys when they move (a failover, a resharding).
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
    """A client of the whole cluster if the server is part of one, else None.

    None for a unix socket as well: only the node behind it can be reached.
    """
    if not (await client.info("cluster")).get("cluster_enabled") or _address(url).startswith("unix:"):
        return None
    return RedisCluster.from_url(_address(url), **_options(timeout_s))


async def node_of(client: Client, key: str) -> ClusterNode | None:
    """The node that has the key; None if there is only one server."""
    if not isinstance(client, RedisCluster):
        return None
    await client.initialize()
    return client.get_node_from_key(key)


async def persistence(client: Client, node: ClusterNode | None) -> dict[str, Any]:
    """The node's report on its append-only file. node: None if there is only one server."""
    target = {} if node is None else {"target_nodes": node}
    return await client.info("persistence", **target)


async def reconnect(client: Client) -> None:
    """Makes the next command look up the addresses again."""
    await (client.aclose() if isinstance(client, RedisCluster) else client.connection_pool.disconnect())


async def close(client: Client) -> None:
    """Also closes connections that the client of a cluster was about to replace; its own `aclose` leaves them open."""
    await client.aclose()
    if isinstance(client, RedisCluster):
        for nodes in ("nodes_cache", "startup_nodes"):
            await client.nodes_manager.aclose(nodes)


def without_secrets(url: str) -> str:
    return _address(url).split("://", 1)[1].rsplit("@", 1)[-1].split("?", 1)[0]


def _address(url: str) -> str:
    return url if "://" in url else f"unix://{quote(url)}"


def _options(timeout_s: float) -> dict[str, Any]:
    """Options of a client. Every script may run twice, so a command is tried once more after a lost connection.

    After a timeout it is not tried again: the caller's time is used up. Only a cluster is asked again where the keys
    are.
    """
    retry = Retry(ExponentialWithJitterBackoff(base=0.02, cap=0.1), 1, (RedisConnectionError,))
    return {
        "retry": retry,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "health_check_interval": 0,
    }

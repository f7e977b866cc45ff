"""The provisioning of Grafana."""

from typing import Any
from urllib.parse import urlsplit


def test_the_data_source_is_the_prometheus_of_the_compose_file(
    provisioning: dict[str, dict[str, Any]], compose: dict[str, Any]
) -> None:
    (source,) = provisioning["datasources/prometheus.yml"]["datasources"]
    url = urlsplit(source["url"])
    assert source["type"] == "prometheus"
    assert url.hostname in compose["services"]
    published = compose["services"][url.hostname]["ports"]
    assert [port.rsplit(":", 1)[1] for port in published] == [str(url.port)]


def test_grafana_and_its_data_source_share_a_network(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert set(services["grafana"]["networks"]) & set(services["prometheus"]["networks"])
    assert set(services["prometheus"]["networks"]) & set(services["losscast"]["networks"])


def test_the_data_source_has_a_fixed_uid_and_is_the_default(provisioning: dict[str, dict[str, Any]]) -> None:
    (source,) = provisioning["datasources/prometheus.yml"]["datasources"]
    assert source["uid"] == "losscast-prometheus"
    assert source["isDefault"] is True


def test_dashboards_are_read_from_a_folder_that_is_mounted(
    provisioning: dict[str, dict[str, Any]], compose: dict[str, Any]
) -> None:
    (provider,) = provisioning["dashboards/losscast.yml"]["providers"]
    targets = [mount.split(":")[1] for mount in compose["services"]["grafana"]["volumes"]]
    assert provider["type"] == "file"
    assert provider["options"]["path"] in targets

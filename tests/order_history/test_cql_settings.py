"""A CQL store's address, as people write it into config."""

from pathlib import Path

import pytest

from services.order_history.stores.cql_settings import CqlSettings, parse_cql_address


def test_hosts_ports_login_and_options_are_read() -> None:
    settings = parse_cql_address(
        "scylla://trader:p%40ss@10.0.0.1,db.example:9042,[::1]/History_1?consistency=quorum&datacenter=eu&replication_factor=2"
        "&tls=true&tls_ca=/etc/ca.pem&timeout_seconds=2.5&requests_max=64&safe_seconds=30"
    )
    assert settings == CqlSettings(
        hosts=(("10.0.0.1", 9042), ("db.example", 9042), ("::1", 9042)),
        keyspace="history_1",
        username="trader",
        password="p@ss",
        consistency="QUORUM",
        datacenter="eu",
        replication_factor=2,
        tls=True,
        tls_ca=Path("/etc/ca.pem"),
        timeout_seconds=2.5,
        requests_max=64,
        safe_seconds=30.0,
    )


def test_the_password_is_never_shown() -> None:
    settings = parse_cql_address("scylla://trader:secret@host/history")
    assert "secret" not in str(settings) + repr(settings)
    assert str(settings) == "scylla://trader@host:9042/history"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("mysql://host/history", "begins with scylla:// or cassandra://, this one with 'mysql'"),
        ("scylla://host", "keyspace must be a name of letters, digits and _, at most 48, is ''"),
        ("scylla://host/a-b", "keyspace must be a name .* is 'a-b'"),
        ("scylla://host:port/history", "a host must be HOST or HOST:PORT, is 'host:port'"),
        ("scylla://a:9042,b:9043/history", "all hosts must have the same port, .* are 'a:9042,b:9043'"),
        ("scylla:///history", "a host must be HOST or HOST:PORT, is ''"),
        ("scylla://host/history?colour=red", "no option 'colour': the options are consistency, datacenter"),
        ("scylla://host/history?consistency=TWO", "consistency must be one of ONE, .*, is 'TWO'"),
        ("scylla://host/history?replication_factor=0", "replication_factor must be a whole number of at least 1, is '0'"),
        ("scylla://host/history?timeout_seconds=0", "timeout_seconds must be more than 0 seconds, is '0'"),
        ("scylla://host/history?safe_seconds=-1", "safe_seconds must be a number of seconds of at least 0, is '-1'"),
        ("scylla://host/history?tls=yes", "tls must be true or false, is 'yes'"),
        ("scylla://host/history?tls_ca=/ca", "tls_ca, tls_cert and tls_key need tls=true"),
        ("scylla://host/history?tls=true&tls_cert=/c", "tls_cert and tls_key go together"),
    ],
)
def test_a_bad_address_names_the_part_the_rule_and_the_value(address: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_cql_address(address)

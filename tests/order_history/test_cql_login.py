"""A CQL store on a server that asks for a password and speaks TLS, by a certificate that this test makes."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from services.order_history.order_processor import OrderProcessor
from services.order_history.stores import StoreRefused, StoreUnavailable
from services.order_history.stores.cql import CqlHistoryStore
from services.order_history.stores.cql_schema import apply_schema
from services.order_history.stores.cql_session import CqlSession
from services.order_history.stores.cql_settings import parse_cql_address
from tests.support.cql_server import CqlNode
from tests.support.eventually import eventually
from tests.support.ledger_builder import LedgerBuilder

pytestmark = [pytest.mark.cql, pytest.mark.torture]

# Cassandra makes its first user by itself, ten seconds after its first start.
USER, PASSWORD = "cassandra", "cassandra"
KEYSTORE_PASSWORD = "of-the-keystore"


class Guarded(NamedTuple):
    """The server, and the certificate that it is to be known by."""

    node: CqlNode
    certificate: Path

    def address(self, password: str = PASSWORD, options: str = "") -> str:
        """The store's address with that password."""
        return f"scylla://{USER}:{password}@{self.node.contact_point}/guarded?timeout_seconds=10{options}"

    @property
    def tls(self) -> str:
        """The options that lead there by TLS."""
        return f"&tls=true&tls_ca={self.certificate}"


def keytool(*arguments: str) -> bytes:
    return subprocess.run(("keytool", *arguments), check=True, capture_output=True).stdout


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    store = ("-alias", "node", "-keystore", str(folder / "node.p12"), "-storepass", KEYSTORE_PASSWORD)
    keytool("-genkeypair", *store, "-storetype", "PKCS12", "-keyalg", "RSA", "-dname", "CN=node", "-ext", "bc=ca:true")
    certificate = folder / "node.pem"
    certificate.write_bytes(keytool("-exportcert", "-rfc", *store))
    # Optional, since the node is asked without TLS whether it is there.
    encryption = {"enabled": True, "optional": True, "store_type": "PKCS12"}
    encryption |= {"keystore": str(folder / "node.p12"), "keystore_password": KEYSTORE_PASSWORD}
    settings = {"authenticator": "PasswordAuthenticator", "client_encryption_options": json.dumps(encryption)}
    with CqlNode(folder / "node", settings=settings) as node:
        guarded = Guarded(node, certificate)
        eventually(lambda: lets_in(guarded.address()), 60)
        yield guarded


def lets_in(address: str) -> bool:
    try:
        CqlSession(parse_cql_address(address)).close()
    except StoreRefused as refused:
        raise AssertionError(str(refused)) from refused
    return True


def test_all_connections_of_a_store_are_by_tls_and_with_its_user(guarded: Guarded) -> None:
    settings = parse_cql_address(guarded.address(options=guarded.tls))
    apply_schema(settings)
    ledger = LedgerBuilder()
    ledger.open_market(("alice",))
    ledger.place("alice")
    store = CqlHistoryStore(settings)
    try:
        store.apply(OrderProcessor().project(ledger.ledger_id, ledger.batches))
        assert [update.message for update in store.active_orders.read_all()] == ledger.open_orders()
        clients = store._session.execute("SELECT username, ssl_enabled FROM system_views.clients")
        assert set(clients) == {(USER, True)}
    finally:
        store.close()


def test_a_wrong_password_is_refused_and_not_shown(guarded: Guarded) -> None:
    with pytest.raises(StoreRefused, match="does not let us in") as refused:
        CqlHistoryStore(parse_cql_address(guarded.address("open-sesame", guarded.tls)))
    assert "open-sesame" not in str(refused.value)


def test_a_certificate_that_nobody_vouches_for_is_not_taken(guarded: Guarded) -> None:
    with pytest.raises(StoreUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        CqlHistoryStore(parse_cql_address(guarded.address(options="&tls=true")))

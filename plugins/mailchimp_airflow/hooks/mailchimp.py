"""The Airflow hook for Mailchimp: turns a connection into a `MailchimpClient`."""

from __future__ import annotations

from typing import Any

from airflow.providers.http.hooks.http import HttpHook
from airflow.sdk.exceptions import AirflowNotFoundException
from requests import PreparedRequest, Response, Session
from requests.auth import AuthBase

from include.mailchimp.client import MailchimpClient
from include.mailchimp.errors import (
    AuthenticationFailed,
    ConnectionFailed,
    ConnectionSettingsError,
    Forbidden,
    MailchimpError,
    problem_from,
)
from include.mailchimp.retry import RetryPolicy
from include.mailchimp.throttle import Throttle
from include.mailchimp.transport import send
from mailchimp_airflow.hooks.connection import MailchimpConnection, missing_connection_text, read_connection

CONNECT_SECONDS = 10.0
EXAMPLE_URI = "'mailchimp://:0123456789abcdef0123456789abcdef-us6@'"
_TEST_POLICY = RetryPolicy(attempts=2, total_seconds=15)


class MailchimpHook(HttpHook):
    """Talk to the Mailchimp Marketing API.

    Built on the HTTP provider's hook, so that `HttpOperator` and sensors work with the connection, with these
    differences: one session per hook (connections are kept alive), extras never become headers, reply bodies and
    addresses are never logged, errors are the types of `include.mailchimp.errors`, and there is always a time-out.

    :param mailchimp_conn_id: Airflow connection of type `mailchimp`: password = API key or OAuth token; host = base
        URL, by default from the key's suffix; extras `dc` (datacentre of an OAuth token, by default asked for at
        Mailchimp's login service), `proxies`, `verify`, `cert`, `trust_env`.
    :param method: HTTP method of `run` (only `HttpOperator` and the like use that).
    """

    conn_name_attr = "mailchimp_conn_id"
    default_conn_name = "mailchimp"
    conn_type = "mailchimp"
    hook_name = "Mailchimp"

    def __init__(self, mailchimp_conn_id: str = default_conn_name, method: str = "GET", **kwargs: Any) -> None:
        super().__init__(method=method, http_conn_id=mailchimp_conn_id, **kwargs)
        self.mailchimp_conn_id = mailchimp_conn_id
        self._session: Session | None = None
        self._settings: MailchimpConnection | None = None

    @property
    def settings(self) -> MailchimpConnection:
        """Return the connection, read once.

        :raises AirflowNotFoundException: there is no such connection.
        :raises ConnectionSettingsError: it cannot work.
        """
        if self._settings is None:
            try:
                connection = self.get_connection(self.mailchimp_conn_id)
            except AirflowNotFoundException:
                text = missing_connection_text(self.mailchimp_conn_id, "Mailchimp", EXAMPLE_URI)
                raise AirflowNotFoundException(text) from None
            self._settings = read_connection(connection, connection.extra_dejson)
        return self._settings

    def get_client(
        self, max_connections: int = 4, timeout: float = 60, retry: RetryPolicy | None = None
    ) -> MailchimpClient:
        """Return a client on this hook's session.

        :param max_connections: requests in flight at most (1 to 10, Mailchimp's limit for all applications together).
        :param timeout: seconds to wait for a reply.
        :param retry: how often and how long to repeat; by default 8 attempts within 4 minutes.
        """
        return MailchimpClient(
            self.get_conn(),
            self.settings.base_url,
            throttle=Throttle(max_connections),
            timeout=(CONNECT_SECONDS, timeout),
            retry=retry,
        )

    def test_connection(self) -> tuple[bool, str]:
        """Ping Mailchimp, for the form's Test button and `airflow connections test`.

        :return: (True, ``Everything's Chimpy!``), or (False, what is wrong and what to do).
        """
        try:
            return True, self.get_client(timeout=15, retry=_TEST_POLICY).ping()
        except (AirflowNotFoundException, ConnectionSettingsError) as error:
            return False, str(error)
        except AuthenticationFailed as error:
            advice = (
                "the key may be revoked or cut short, or belong to another datacentre than the host. In Mailchimp, "
                "Profile → Extras → API keys: create a key, and put all of it, with its suffix, into the password"
            )
            return False, f"Mailchimp refuses the API key ({error}): {advice}"
        except Forbidden as error:
            return False, f"Mailchimp knows the API key but refuses access ({error}): check the account and the host"
        except ConnectionFailed as error:
            host = self.settings.base_url
            return False, f"no reply from {host} ({error}): check the host of the connection, the network and any proxy"
        except MailchimpError as error:
            return False, f"{self.settings.base_url} does not answer as Mailchimp does ({error})"

    def get_conn(self, headers: dict[Any, Any] | None = None, extra_options: dict[str, Any] | None = None) -> Session:
        """Return the one session of this hook, authenticated.

        :param headers: not kept on the session, which is shared; `run` sends them with its own request.
        :param extra_options: options of `run` for one request: `timeout`, `check_response`, `stream`.
        """
        self.merged_extra = dict(extra_options or {})
        if self._session is None:
            transport = self.settings.transport  # first, for its clear errors
            session = super().get_conn()
            for name, value in transport.items():
                setattr(session, name, value)
            self._session = session
        return self._session

    def check_response(self, response: Response) -> None:
        """Raise the typed error of a refused request, without logging its body.

        :raises MailchimpError: the status is not 2xx.
        """
        if not 200 <= response.status_code < 300:
            raise problem_from(response.status_code, response.headers.get("Content-Type", ""), response.content)

    def run_and_check(
        self, session: Session, prepped_request: PreparedRequest, extra_options: dict[Any, Any]
    ) -> Response:
        """Send a request of `run` once; a network failure is not logged with its address."""
        response = send(
            session,
            prepped_request,
            timeout=(CONNECT_SECONDS, float(extra_options.get("timeout") or 60)),
            stream=bool(extra_options.get("stream")),
        )
        if extra_options.get("check_response", True):
            self.check_response(response)
        return response

    def _set_base_url(self, connection: Any) -> None:
        self.base_url = self.settings.base_url
        self._base_url_initialized = True

    def _extract_auth(self, connection: Any) -> AuthBase:
        return _HeaderAuth(self.settings.authorization)

    def _configure_session_from_extra(
        self, session: Session, connection: Any, extra_options: dict[str, Any]
    ) -> Session:
        return session  # the base class would send every extra it does not know as a header


class _HeaderAuth(AuthBase):
    """Sets the Authorization header, and keeps requests from using `.netrc` in its place."""

    def __init__(self, authorization: str) -> None:
        self._authorization = authorization

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.headers["Authorization"] = self._authorization
        return request

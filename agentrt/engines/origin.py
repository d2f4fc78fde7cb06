"""Whether a URL leads to our engine: requests to it carry identity, requests to anybody else carry nothing."""

from urllib.parse import urlsplit

_LOOPBACK = {"localhost", "127.0.0.1", "::1", "0.0.0.0"}  # noqa: S104 - compared with, never bound
_PORTS = {"http": 80, "https": 443}
_MAX_REMEMBERED = 1000


class Origin:
    """Scheme, host and port of one server. All loopback names are the same host."""

    def __init__(self, base_url: str) -> None:
        self._origin = _origin(base_url)
        self._known: dict[str, bool] = {}

    def serves(self, url: str) -> bool:
        """Whether a request to this URL goes there. Never raises; remembered, since it is asked for every request."""
        known = self._known.get(url)
        if known is None:
            try:
                known = _origin(url) == self._origin
            except ValueError:
                known = False
            if len(self._known) < _MAX_REMEMBERED:
                self._known[url] = known
        return known


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    return (parts.scheme, "localhost" if host in _LOOPBACK else host, parts.port or _PORTS.get(parts.scheme))

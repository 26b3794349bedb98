"""An HTTP client that waits for as long as the service may take, on slow machines too."""

import httpx

from tests.support.patience import PATIENCE_S

http = httpx.Client(timeout=PATIENCE_S, limits=httpx.Limits(max_keepalive_connections=0))

"""An HTTP client that waits for as long as the service may take.

A probe has 8 s, and CI machines are slow.
"""

import httpx

http = httpx.Client(timeout=60, limits=httpx.Limits(max_keepalive_connections=0))

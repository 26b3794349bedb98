"""``make bench``: quality, then speed beside a peer."""

from benchmarks import quality, speed

quality.main()
speed.main()

"""``make bench``: quality, then speed beside a peer."""

from benchmarks.quality import tiers
from benchmarks.speed import end_to_end

tiers.main()
end_to_end.main()

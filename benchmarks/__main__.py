"""``make bench``: measures quality, then speed next to rembg."""

from benchmarks.quality import tiers
from benchmarks.speed import end_to_end

tiers.main()
end_to_end.main()

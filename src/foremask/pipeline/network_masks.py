"""The stages that make masks by the network, and `mask_images`, which runs them alone."""

from collections.abc import Callable, Iterable, Iterator

from foremask.options import Quality
from foremask.pipeline.stage_list import Pipeline, Queue, Stage
from foremask.pipeline.stages.ask import Ask
from foremask.pipeline.stages.decide import Decide
from foremask.pipeline.stages.propagate import Propagate
from foremask.pipeline.stages.shots import Shots
from foremask.pipeline.threads import Workers
from foremask.types import Image
from foremask.vision.network.network_cache import NetworkCache
from foremask.vision.network.network_protocol import Network
from foremask.vision.temporal.blocks import Asking
from foremask.vision.temporal.frame_hints import Guidance
from foremask.vision.temporal.grids import MaskAlpha
from foremask.vision.temporal.observer import Observer
from foremask.vision.temporal.tier import BLOCK_FRAMES, TIERS, Tier
from foremask.vision.temporal.verdict import Judge, judge


def network_stages(
    workers: Workers,
    network: Network,
    tier: Tier,
    *,
    judge: Judge = judge,
    guidance: Guidance | None = None,
    is_wanted: Callable[[Image], bool] = lambda _: True,
    cache: NetworkCache | None = None,
    observer: Observer | None = None,
    flows_ahead: int = BLOCK_FRAMES,
    learns_appearance: bool = True,
) -> list[Stage | Queue]:
    """Return the stages from images to masks; `mask_images` describes the arguments."""
    cache = cache or NetworkCache()
    observer = observer or Observer()
    asking = Asking(network, tier, guidance, cache, observer)
    return [
        Shots(tier, is_wanted, workers),
        Queue(flows_ahead),
        Ask(asking, finishes_cache=learns_appearance),
        Decide(
            tier=tier,
            judge=judge,
            guidance=guidance,
            cache=cache,
            workers=workers,
            observer=observer,
            learns_appearance=learns_appearance,
        ),
        Propagate(tier, workers),
    ]


def mask_images(
    images: Iterable[Image],
    network: Network,
    tier: Tier = TIERS[Quality.BALANCED],
    judge: Judge = judge,
    guidance: Guidance | None = None,
    is_wanted: Callable[[Image], bool] = lambda _: True,
    cache: NetworkCache | None = None,
    observer: Observer | None = None,
    flows_ahead: int = BLOCK_FRAMES,
    *,
    learns_appearance: bool = True,
) -> Iterator[MaskAlpha]:
    """Yield one mask for each wanted image, in order, on the grid of `Tier.mask_area_px`.

    All images have one size. A mask comes at most `LAG_FRAMES` images after its own image.

    The wanted images, for which ``is_wanted`` is true, are consecutive. Images before and after
    them are context. A span of a clip between two multiples of `WINDOW_FRAMES` gets the same masks
    as in the clip, if ``context_frames`` of `SEGMENT_GRID` are on both sides.

    ``cache`` has the network's results of an earlier run over the same images, also of one that
    was stopped, or gets those of this run; masks are the same without it. At most ``flows_ahead``
    images wait with their flow while the network runs. Without ``learns_appearance``, no classifier
    is trained, and the logits that ``judge`` gets are 0.
    """
    with Workers() as workers:
        stages = network_stages(
            workers,
            network,
            tier,
            judge=judge,
            guidance=guidance,
            is_wanted=is_wanted,
            cache=cache,
            observer=observer,
            flows_ahead=flows_ahead,
            learns_appearance=learns_appearance,
        )
        with Pipeline(images, stages).running() as masks:
            yield from masks

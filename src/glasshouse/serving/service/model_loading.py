"""Loading models while a service runs: on request, and when newer weights are written."""

import asyncio
import gc
import logging
from functools import partial

from glasshouse.errors import GlasshouseError
from glasshouse.memory import return_freed_memory
from glasshouse.serving.service.problems import Problem, overloaded
from glasshouse.serving.service.served_models import ModelSource, load_served
from glasshouse.serving.service.service import Service

log: logging.Logger = logging.getLogger("glasshouse.service")
_POLL_SECONDS = 2.0
# Each takes seconds; more of them wait for nothing but what the first of them brings.
_MAX_WAITING = 4


async def load_by_name(service: Service, name: str) -> None:
    """Load a model, or load it again; raises Problem 404, 422 or 503, and then changes nothing."""
    source = service.models.source(name)
    if service.loader.load >= _MAX_WAITING:
        raise overloaded("Other models are being loaded.", 1)
    failure = await _try_to_load(service, source)
    if failure is not None:
        raise Problem(422, "not-loaded", f"The model {name!r} cannot be loaded: {failure}")


async def reload_changed(service: Service) -> None:
    """Load every loaded model again whose folder has newer weights.

    One that cannot be loaded stays as it is, and is tried again once its folder changes again.
    """
    for name, source in service.models.sources.items():
        stamp = await service.loader.submit(source.stamp)
        if not service.models.is_outdated(name, stamp):
            continue
        try:
            failure = await _try_to_load(service, source, is_update=True)
        # The service keeps what it has, whatever a folder does to it, and looks at the others.
        except Exception:
            log.exception("model %s: newer weights cannot be loaded", name)
            service.models.note_failure(name, stamp, "internal error; see the service's log")
            continue
        if failure is None:
            log.warning("model %s: newer weights are served now", name)
        else:
            log.warning("model %s: newer weights cannot be loaded: %s", name, failure)


async def keep_up_to_date(service: Service) -> None:
    """Reload changed models until the task is cancelled."""
    while True:
        await asyncio.sleep(_POLL_SECONDS)
        await reload_changed(service)


async def _try_to_load(
    service: Service, source: ModelSource, is_update: bool = False
) -> str | None:
    """Why it failed, if it did."""
    models = service.models
    stamp = await service.loader.submit(source.stamp)
    try:
        model = await service.loader.submit(partial(load_served, source, service.limits.max_batch))
    except (GlasshouseError, OSError) as error:
        models.note_failure(source.name, stamp, str(error))
        return str(error)
    # It may have been unloaded while its update was read.
    if not is_update or model.name in [each.name for each in models.loaded()]:
        models.put(model)
        service.metrics.model_loads.labels(model.name).inc()
    del model
    await service.loader.submit(_free_replaced)
    return None


def _free_replaced() -> None:
    """Free the model that was loaded before: its parts refer to each other, so it would stay."""
    # A process that only serves keeps what it began with out of the collector's sight.
    is_frozen = gc.get_freeze_count() > 0
    if is_frozen:
        gc.unfreeze()
    gc.collect()
    if is_frozen:
        gc.freeze()
    return_freed_memory()
